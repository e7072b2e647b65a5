/**
 * Formats that are checked, as patterns. Each describes a subset of the format's strings: what the
 * pattern refuses may be valid, what it lets through is.
 *
 * Source: JSON Schema 2020-12 validation, section 7.3, and the RFCs it names (3339, 3986, 4122, 5321,
 * 1123, 2673, 4291). Differs: dates end with the 28th of February except in leap years of the usual form, leap
 * seconds, two hyphens in a row in host names, quoted mailboxes and address literals are left out.
 */

const year = "\\d{4}";
const day = "(0[1-9]|1\\d|2[0-8])";
const date = `(${year}-((0[1-9]|1[0-2])-${day}|(0[13-9]|1[0-2])-(29|30)|(0[13578]|1[02])-31)` +
  "|(\\d\\d(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)-02-29)";
const clock = "([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(\\.\\d{1,9})?";
const offset = "([Zz]|[+\\-]([01]\\d|2[0-3]):[0-5]\\d)";
const octet = "(25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)";
const ipv4 = `${octet}(\\.${octet}){3}`;
const label = "([A-Za-z0-9]-?){0,31}[A-Za-z0-9]";
const host = `${label}(\\.${label}){0,8}`;
const atom = "[A-Za-z0-9!#$%&'*+\\/=?^_`\\{\\|\\}~\\-]{1,32}";
const group = "[0-9A-Fa-f]{1,4}";
const hex = "[0-9A-Fa-f]";
const uriCharacter = "([A-Za-z0-9\\-._~!$&'()*+,;=:@\\/?]|%[0-9A-Fa-f]{2})";
const pathCharacter = "([A-Za-z0-9\\-._~!$&'()*+,;=:@]|%[0-9A-Fa-f]{2})";
const uriTail = `(\\/\\/(${pathCharacter.replace(":@", "")})+(:\\d{1,5})?(\\/${pathCharacter}*)*` +
  `|\\/?${pathCharacter}+(\\/${pathCharacter}*)*)(\\?${uriCharacter}*)?(#${uriCharacter}*)?`;
const pointerStep = "\\/([^~\\/]|~[01])*";

const literal = "([!#$&(-;=?-\\[\\]_a-z~\\xa0-\\ud7ff\\uf900-\\ufdcf]|%[0-9A-Fa-f]{2})";
const variable = "[A-Za-z0-9_]+(\\.[A-Za-z0-9_]+)*(\\*|:[1-9]\\d{0,3})?";

const ipv6 = [
  `(${group}:){7}${group}`,
  ...Array.from({ length: 7 }, (_, before) => {
    const head = before === 0 ? "" : `${group}(:${group}){0,${before - 1}}`;
    const room = 6 - before;
    const tail = room === 0 ? `(${group})?` : `(${group}(:${group}){0,${room}})?`;
    return before === 0 ? `::${tail}` : `${head}::${room < 0 ? "" : tail}`;
  }),
].join("|");

const days = "(\\d{1,6}Y(\\d{1,6}M(\\d{1,6}D)?)?|\\d{1,6}M(\\d{1,6}D)?|\\d{1,6}D)";
const hours = "(\\d{1,6}H(\\d{1,6}M(\\d{1,6}S)?)?|\\d{1,6}M(\\d{1,6}S)?|\\d{1,6}S)";

/** Format name -> pattern of the whole string. */
export const formatPatterns: ReadonlyMap<string, string> = new Map([
  ["date", `^${date}$`],
  ["time", `^${clock}${offset}$`],
  ["date-time", `^${date}[Tt]${clock}${offset}$`],
  ["duration", `^P\\d{1,6}W$|^P${days}$|^P${days}?T${hours}$`],
  ["email", `^${atom}(\\.${atom}){0,3}@${host}$`],
  ["hostname", `^${host}$`],
  ["ipv4", `^${ipv4}$`],
  ["ipv6", ipv6.split("|").map((part) => `^${part}$`).join("|")],
  ["uuid", `^${hex}{8}-${hex}{4}-${hex}{4}-${hex}{4}-${hex}{12}$`],
  ["uri", `^[A-Za-z][A-Za-z0-9+.\\-]{0,31}:${uriTail}$`],
  ["uri-reference", `^([A-Za-z][A-Za-z0-9+.\\-]{0,31}:)?${uriTail}$`],
  ["uri-template", `^(${literal}|\\{[+#.\\/;?&]?${variable}(,${variable}){0,15}\\})*$`],
  ["json-pointer", `^(${pointerStep})*$`],
  ["relative-json-pointer", `^(0|[1-9]\\d{0,8})(#|(${pointerStep})*)$`],
]);

/** Greatest lengths, where the pattern cannot say it. */
export const formatLengths: ReadonlyMap<string, number> = new Map([
  ["hostname", 253],
  ["email", 254],
]);
