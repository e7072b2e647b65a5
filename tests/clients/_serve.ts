/** Gateways on a port, for clients that want one. */
import { createGateway } from "../../mod.ts";
import { chatModel, digest, type GatewayOptions, testGateway } from "../routes/_support.ts";

/** A gateway on a port of this machine. */
export interface ServedGateway extends AsyncDisposable {
  readonly baseURL: string;
  /** Resolves when a stream has ended, with how. */
  readonly streamEnd: Promise<string>;
  readonly model: ReturnType<typeof chatModel>;
}

/** A fake model behind the key "secret". */
export async function serveFake(
  options: GatewayOptions & { readonly failAtStep?: number } = {},
): Promise<ServedGateway> {
  const { failAtStep, ...rest } = options;
  const model = chatModel(failAtStep === undefined ? {} : { failAtStep });
  const streamEnd = Promise.withResolvers<string>();
  const gateway = testGateway({
    models: [model],
    apiKeys: [await digest("secret")],
    log: ({ event, outcome }) => event === "stream_end" && streamEnd.resolve(String(outcome)),
    ...rest,
  });
  return {
    ...listen((request) => gateway.app.fetch(request)),
    streamEnd: streamEnd.promise,
    model,
  };
}

/** An embedded model, without a key. */
export async function serveEmbedded(): Promise<Pick<ServedGateway, "baseURL"> & AsyncDisposable> {
  const gateway = await createGateway({ models: ["decant-tiny-draft"] }, { thread: "own" });
  const served = listen((request) => gateway.fetch(request));
  return {
    ...served,
    async [Symbol.asyncDispose]() {
      await served[Symbol.asyncDispose]();
      await gateway[Symbol.asyncDispose]();
    },
  };
}

function listen(fetch: (request: Request) => Response | Promise<Response>) {
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, fetch);
  return {
    baseURL: `http://127.0.0.1:${server.addr.port}/v1`,
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}
