/**
 * One file from the hub to disk: into `NAME.incomplete`, resumed where an earlier run or a cut
 * connection left off, checked, then renamed.
 */
import { HubError, statusError, type Subject } from "./errors.ts";
import { bodyOf, type HubHttp, send, withIdleLimit, withRetries } from "./http.ts";
import { createMeter, type Progress, type ProgressMeter } from "./progress.ts";
import { createVerifier, feedFile, type RemoteFile, type Verifier } from "./verify.ts";

export interface Download {
  readonly url: URL;
  readonly subject: Subject & { readonly file: string };
  readonly remote: RemoteFile;
  /** Path of the finished file; its folder exists. */
  readonly target: string;
  readonly onProgress: (progress: Progress) => void;
}

/** The partial file and what is known of it. */
interface Partial {
  readonly file: Deno.FsFile;
  received: number;
  verifier: Verifier;
}

/**
 * Downloads one file. A partial file whose hash turns out wrong is thrown away and downloaded anew
 * once, since an earlier run may have left it damaged.
 *
 * @throws {HubError} if the hub refuses, the connection fails too often, or length or hash differ
 */
export async function download(http: HubHttp, job: Download): Promise<void> {
  const path = `${job.target}.incomplete`;
  const file = await Deno.open(path, { read: true, write: true, create: true });
  let complete = false;
  try {
    await lock(file, job.subject);
    const partial = await resume(file, job.remote, http.signal);
    const resumed = partial.received > 0;
    complete = await fill(http, job, partial);
    if (!complete && resumed) {
      await restart(partial, job.remote);
      complete = await fill(http, job, partial);
    }
    if (!complete) await file.truncate(0);
    await file.syncData();
  } finally {
    file.close();
  }
  if (complete) return await finish(path, job);
  await Deno.remove(path);
  const message = `its ${job.remote.check.kind} is not the one the hub announced`;
  throw new HubError("corrupt", message, job.subject);
}

/** Moves the checked file into place, unless another process has done so in between. */
async function finish(path: string, job: Download): Promise<void> {
  try {
    await Deno.rename(path, job.target);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    const found = await Deno.stat(job.target);
    if (found.size !== job.remote.size) throw error;
  }
}

async function lock(file: Deno.FsFile, subject: Subject): Promise<void> {
  if (await file.tryLock(true)) return;
  throw new HubError("busy", "another process is downloading it", subject);
}

/** Takes up what an earlier run has left. */
async function resume(
  file: Deno.FsFile,
  remote: RemoteFile,
  signal: AbortSignal,
): Promise<Partial> {
  const { size } = await file.stat();
  const partial = { file, received: size, verifier: createVerifier(remote) };
  if (size > remote.size) await restart(partial, remote);
  else await feedFile(file, size, partial.verifier, signal);
  return partial;
}

async function restart(partial: Partial, remote: RemoteFile): Promise<void> {
  await partial.file.truncate(0);
  await partial.file.seek(0, Deno.SeekMode.Start);
  partial.received = 0;
  partial.verifier = createVerifier(remote);
}

/** Downloads the rest. @returns whether the hash is right */
async function fill(http: HubHttp, job: Download, partial: Partial): Promise<boolean> {
  const { name, total } = { name: job.subject.file, total: job.remote.size };
  const meter = createMeter({ name, total }, http.clock.now, job.onProgress);
  meter.update(partial.received);
  await withRetries(http, async () => {
    if (partial.received < total) await receive(http, job, partial, meter);
  });
  return partial.verifier.matches();
}

/** One GET for everything that is missing. */
async function receive(
  http: HubHttp,
  job: Download,
  partial: Partial,
  meter: ProgressMeter,
): Promise<void> {
  const { subject, url, remote } = job;
  await withIdleLimit(http, subject, async (signal, touch) => {
    const headers: Record<string, string> = {};
    if (partial.received > 0) headers.range = `bytes=${partial.received}-`;
    const response = await send(http, { method: "GET", url, headers, subject, signal });
    try {
      await checkAnswer(response, job, partial);
    } catch (error) {
      await response.body?.cancel();
      throw error;
    }
    for await (const chunk of bodyOf(response, subject, signal)) {
      touch();
      if (partial.received + chunk.length > remote.size) {
        throw new HubError("corrupt", `it is longer than the ${remote.size} bytes announced`, {
          ...subject,
        });
      }
      await append(partial, chunk);
      meter.update(partial.received);
    }
  });
  if (partial.received < remote.size) {
    const message = `only ${partial.received} of ${remote.size} bytes came`;
    throw new HubError("network", message, { ...subject, retryable: true });
  }
}

/** Makes sure that the body continues the partial file, emptying it if the body starts at 0. */
async function checkAnswer(response: Response, job: Download, partial: Partial): Promise<void> {
  const { subject, remote } = job;
  const corrupt = (message: string) => new HubError("corrupt", message, subject);
  switch (response.status) {
    case 200: {
      const length = response.headers.get("content-length");
      if (length !== null && Number(length) !== remote.size) {
        throw corrupt(`${length} bytes were sent, ${remote.size} announced`);
      }
      if (partial.received > 0) await restart(partial, remote); // ranges are not supported
      return;
    }
    case 206: {
      const range = response.headers.get("content-range") ?? "";
      const match = /^bytes ([0-9]+)-[0-9]+\/([0-9]+|\*)$/.exec(range);
      const right = match && Number(match[1]) === partial.received &&
        (match[2] === "*" || Number(match[2]) === remote.size);
      if (!right) throw corrupt("another part was sent than the one asked for");
      return;
    }
    case 416:
      // What is here does not fit what the storage has: start over.
      await restart(partial, remote);
      throw new HubError("response", "the part asked for does not exist (416)", {
        ...subject,
        status: 416,
        retryable: true,
      });
    default:
      throw statusError(response, subject);
  }
}

async function append(partial: Partial, chunk: Uint8Array): Promise<void> {
  for (let written = 0; written < chunk.length;) {
    written += await partial.file.write(chunk.subarray(written));
  }
  partial.verifier.update(chunk);
  partial.received += chunk.length;
}
