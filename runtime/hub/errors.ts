/**
 * The error class of downloads. `reason` is for code, the message is for people; neither holds an
 * address, a token or a local path. The platform's own error, which may, is the `cause`.
 */

/** Why a download failed. */
export type HubReason =
  /** There is no such repository, revision or file, or it is hidden from this token. */
  | "not-found"
  /** A token is needed, or the one given is not accepted. */
  | "unauthorized"
  /** The token is known but may not read this, or terms have to be accepted first. */
  | "forbidden"
  /** The connection failed or was cut more often than it may be retried. */
  | "network"
  /** Another status, or an answer that does not make sense. */
  | "response"
  /** Length or hash of what came are not what was announced. */
  | "corrupt"
  /** The repository holds nothing that can be loaded, or leaves a choice open. */
  | "unsuitable"
  /** Another process is downloading the same file. */
  | "busy";

export interface HubErrorOptions {
  /** "org/name". */
  readonly repo: string;
  /** File in the repository; absent when the error concerns the repository. */
  readonly file?: string | undefined;
  readonly status?: number | undefined;
  /** Whether the same request may succeed later. @default false */
  readonly retryable?: boolean;
  /** How long the server asked to wait. */
  readonly retryAfterMs?: number | undefined;
  readonly cause?: unknown;
}

/** A model could not be fetched from a hub. */
export class HubError extends Error {
  override readonly name = "HubError";
  readonly reason: HubReason;
  readonly repo: string;
  readonly file: string | undefined;
  readonly status: number | undefined;
  readonly retryable: boolean;
  readonly retryAfterMs: number | undefined;

  constructor(reason: HubReason, message: string, options: HubErrorOptions) {
    const file = options.file === undefined ? "" : `${JSON.stringify(options.file)} of `;
    super(`Cannot download ${file}${JSON.stringify(options.repo)}: ${message}`, {
      cause: options.cause,
    });
    this.reason = reason;
    this.repo = options.repo;
    this.file = options.file;
    this.status = options.status;
    this.retryable = options.retryable ?? false;
    this.retryAfterMs = options.retryAfterMs;
  }
}

/** What a request was about, for messages. */
export interface Subject {
  readonly repo: string;
  readonly file?: string | undefined;
}

/** The error for an answer with an unexpected status. */
export function statusError(response: Response, subject: Subject): HubError {
  const { status } = response;
  const options = { ...subject, status };
  switch (status) {
    case 401:
      return new HubError(
        "unauthorized",
        "the hub asks for a token (401): it does not exist, is private, or needs HF_TOKEN",
        options,
      );
    case 403:
      return new HubError(
        "forbidden",
        "this token may not read it (403), or its terms have to be accepted first",
        options,
      );
    case 404:
    case 410:
      return new HubError("not-found", `it was not found (${status})`, options);
    default: {
      const retryable = status === 408 || status === 429 || status >= 500;
      const retryAfterMs = retryAfter(response.headers.get("retry-after"));
      const answer = `the hub answered with status ${status}`;
      return new HubError("response", answer, { ...options, retryable, retryAfterMs });
    }
  }
}

const MAX_RETRY_AFTER_SECONDS = 300;

/** `Retry-After` in seconds; a date is not understood and counts as absent. */
function retryAfter(value: string | null): number | undefined {
  if (value === null || !/^[0-9]{1,9}$/.test(value)) return undefined;
  return Math.min(Number(value), MAX_RETRY_AFTER_SECONDS) * 1000;
}
