import { type Split, splitOf } from "./task.ts";
import type { TaskRng } from "./rng.ts";

const list = (text: string): readonly string[] => text.trim().split(/\s+/);

export const NOUNS = list(`
  apple bird boat book box bridge car cat chair cloud coat cow cup dog door dress drum duck fan farm
  fish flag flower fork fox frog game gate goat hat hill horse house jar key kite lamp leaf lion map
  moon mouse nest orange owl paper pen pig plant plate pond rabbit rain ring river road rock rope rose
  sand seed ship shirt shoe snow spoon star stick sun table tiger toy train tree truck wall wheel
  window wolf zebra ball bell bear cake`);
export const COLOURS = list(`
  red blue green yellow pink purple white black brown gray gold silver`);
export const VALUES = list(`
  red blue green yellow pink purple white black brown gray gold silver big small tall short hot cold
  soft hard fast slow new old happy sad loud quiet dark bright clean dirty wet dry sweet sour round
  flat deep thin`);
export const FIRST = list(`
  Adam Alice Amy Anna Ben Bella Billy Bob Carl Clara Daisy Dan David Ella Emma Eva Fred Grace Hana
  Henry Ivan Jack Jane Jim John Julia Kate Leo Lily Lucy Luke Mark Mary Max Mia Mila Nina Noah Nora
  Olga Oscar Paul Peter Rita Rosa Ruby Sam Sara Sofia Sue Theo Tim Tom Vera Victor Zoe`);
export const LAST = list(`
  Adams Baker Bell Brown Clark Cook Cruz Davis Diaz Evans Fox Garcia Green Hall Hill Jones King Klein
  Lee Lopez Martin Moore Nash Owens Park Perez Reed Rossi Scott Silva Smith Stone Taylor Weber White
  Wood Young`);
export const CITIES = list(`
  Athens Berlin Bern Boston Cairo Delhi Denver Dublin Geneva Kyiv Lagos Lima Lisbon London Lyon Madrid
  Milan Miami Oslo Paris Porto Prague Quito Riga Rome Seoul Tokyo Toronto Tunis Turin Vienna Warsaw`);
export const JOBS = list(`
  baker doctor farmer teacher driver nurse painter pilot singer cook writer lawyer dancer gardener
  builder clerk`);
export const PLACES = list(`
  kitchen garden park school forest beach bedroom bathroom office library shop barn`);

const HEAD = list("B D F G H J K L M N P R S T V Z Br Dr Gr Kr Tr St");
const VOWEL = list("a e i o u");
const MIDDLE = list("l m n r s t v d k b p");
const END = list("n r s l m ck nd ra na lo mi to");

/** Made-up capitalised word, such as "Belmonar". */
function coin(rng: TaskRng): string {
  let word = rng.pick(HEAD) + rng.pick(VOWEL) + rng.pick(MIDDLE) + rng.pick(VOWEL);
  if (rng.chance(0.3)) word += rng.pick(MIDDLE) + rng.pick(VOWEL);
  return word + rng.pick(END);
}

/** Word of a list, or now and then a made-up one, of the given split. */
export function proper(rng: TaskRng, split: Split, words: readonly string[]): string {
  const made = rng.chance(0.35);
  for (let i = 0; i < 10_000; i++) {
    const word = made ? coin(rng) : rng.pick(words);
    if (splitOf(word) === split) return word;
  }
  throw new Error(`no word of the ${split} split`);
}

/** Story-like sentence; uses the same nouns and adjectives as the facts around it. */
export function storySentence(rng: TaskRng): string {
  const who = rng.pick(FIRST);
  const [a, b] = rng.sample(NOUNS, 2);
  const how = rng.pick(VALUES);
  const place = rng.pick(PLACES);
  switch (rng.int(8)) {
    case 0:
      return `${who} went to the ${place} with a ${how} ${a}.`;
    case 1:
      return `One day, ${who} saw a ${a} near the ${b}.`;
    case 2:
      return `The ${how} ${a} was in the ${place}.`;
    case 3:
      return `${who} and ${rng.pick(FIRST)} played with the ${a}.`;
    case 4:
      return `${who} was very ${how} and looked at the ${a}.`;
    case 5:
      return `"Where is my ${a}?" said ${who}.`;
    case 6:
      return `They found a ${a} and a ${how} ${b} in the ${place}.`;
    default:
      return `${who} liked the ${a}, but the ${b} was too ${how}.`;
  }
}
