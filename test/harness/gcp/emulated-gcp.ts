/**
 * Google Cloud on loopback, as far as the command line uses it: Compute Engine, Cloud Storage and the token service. What
 * Google's own schema does not describe is refused, and kept in `schemaErrors`.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ApiError } from './api-error.ts';
import { EmulatedCompute } from './compute/emulated-compute.ts';
import { type Answer, EmulatedStorage } from './storage.ts';

const MAX_BODY = 1024 * 1024;
const PREFIX = '/compute/v1/projects/';

/** One request of the command line. */
interface Call {
  readonly number: number;
  readonly method: string;
  readonly path: string;
  readonly body: unknown;
  /** `Content-Range` of an upload. */
  readonly range: string | undefined;
}

/**
 * What goes wrong with a request: another answer; a connection that breaks before or after it was done; or silence, before or
 * after, to this request and all later ones with its token, as if the client had been killed.
 */
type Fault =
  | { readonly status: number; readonly body?: object; readonly headers?: Readonly<Record<string, string>> }
  | 'reset'
  | 'reset-after'
  | 'silence'
  | 'silence-after';

export interface EmulatedGcp {
  readonly origin: string;
  readonly project: string;
  readonly compute: EmulatedCompute;
  readonly storage: EmulatedStorage;
  readonly calls: readonly Call[];
  /** What was asked for against Google's schema; a test expects none. */
  readonly schemaErrors: readonly string[];
  /** Variables by which the command line finds it. */
  readonly env: Readonly<Record<string, string>>;
  /** Lifetime of the tokens that are given out from now on. */
  tokenSeconds: number;
  /** What the token service answers instead of a token. */
  tokenRefusal: object | undefined;
  /** Tokens that were given out. */
  readonly tokensGiven: number;
  /** The next fault for each request, if any. */
  fault: ((call: Call) => Fault | undefined) | undefined;
  /** Called when a request got silence. */
  onSilence: (() => void) | undefined;
  /** Takes away what tokens were given out. */
  revokeTokens(): void;
  forgetCalls(): void;
  close(): Promise<void>;
}

export async function startGcp(options: { project?: string; now?: () => Date } = {}): Promise<EmulatedGcp> {
  const { project = 'test-project', now = () => new Date() } = options;
  const folder = mkdtempSync(join(tmpdir(), 'gcp-'));
  mkdirSync(join(folder, 'objects'));
  const storage = new EmulatedStorage(join(folder, 'objects'), project);
  const compute = new EmulatedCompute(project, storage, now);
  const calls: Call[] = [];
  const schemaErrors: string[] = [];
  const tokens = new Map<string, number>();
  const silenced = new Set<string>();
  let given = 0;
  let number = 0;

  const server = createServer((request, response) => {
    handle(request, response).catch((error: unknown) => {
      if (response.destroyed) return;
      const api = error instanceof ApiError ? error : new ApiError(500, 'backendError', String(error));
      if (api.reason === 'schema') schemaErrors.push(api.message);
      send(response, { status: api.status, body: api.body });
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const credentials = join(folder, 'credentials.json');
  writeFileSync(join(folder, 'subject-token'), 'subject');
  writeFileSync(
    credentials,
    JSON.stringify({
      type: 'external_account',
      audience: '//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/p',
      subject_token_type: 'urn:ietf:params:oauth:token-type:jwt',
      token_url: `${origin}/v1/token`,
      credential_source: { file: join(folder, 'subject-token') },
    }),
  );

  const gcp: EmulatedGcp = {
    ...{ origin, project, compute, storage, calls, schemaErrors },
    env: {
      GOOGLE_APPLICATION_CREDENTIALS: credentials,
      CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE: `${origin}/compute/v1/`,
      CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE: `${origin}/`,
    },
    tokenSeconds: 3600,
    tokenRefusal: undefined,
    get tokensGiven() {
      return given;
    },
    fault: undefined,
    onSilence: undefined,
    revokeTokens: () => tokens.clear(),
    forgetCalls: () => {
      calls.length = 0;
      number = 0;
    },
    close: async () => {
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
      rmSync(folder, { recursive: true, force: true });
    },
  };

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', origin);
    const method = request.method ?? 'GET';
    if (url.pathname === '/v1/token') return giveToken(response);
    const token = (request.headers.authorization ?? '').replace(/^Bearer /, '');
    if (silenced.has(token)) return;
    const isUpload = method === 'PUT' && url.pathname.startsWith('/upload/');
    const body = isUpload ? undefined : await readJson(request);
    const call = {
      number: ++number,
      method,
      path: url.pathname,
      body,
      range: request.headers['content-range'],
    };
    calls.push(call);
    const fault = gcp.fault?.(call);
    if (fault === 'silence') return silence(token);
    if (fault === 'reset') return void request.socket.destroy();
    if (typeof fault === 'object') {
      request.resume();
      return send(response, fault);
    }
    const asked = answerTo(url, method, body, token, isUpload ? request : undefined);
    // A refusal is an answer too, which a killed client does not get.
    if (fault === 'silence-after') {
      await asked.catch(() => undefined);
      return silence(token);
    }
    const answer = await asked;
    if (fault === 'reset-after') return void request.socket.destroy();
    send(response, answer);
  }

  function silence(token: string): void {
    silenced.add(token);
    gcp.onSilence?.();
  }

  async function answerTo(
    url: URL,
    method: string,
    body: unknown,
    token: string,
    upload: IncomingMessage | undefined,
  ): Promise<Answer> {
    if ((tokens.get(token) ?? 0) <= Date.now()) {
      upload?.resume();
      throw new ApiError(401, 'authError', 'Request had invalid authentication credentials');
    }
    if (upload !== undefined) return await storage.upload(url, upload);
    if (url.pathname.startsWith(PREFIX))
      return { status: 200, body: await compute.answer(method, url, body) };
    return storage.answer(method, url, body, origin);
  }

  function giveToken(response: ServerResponse): void {
    if (gcp.tokenRefusal !== undefined) {
      send(response, { status: 400, body: gcp.tokenRefusal });
      return;
    }
    const token = `token-${++given}`;
    tokens.set(token, Date.now() + gcp.tokenSeconds * 1000);
    send(response, {
      status: 200,
      body: {
        ...{ access_token: token, token_type: 'Bearer', expires_in: gcp.tokenSeconds },
        issued_token_type: 'urn:ietf:params:oauth:token-type:access_token',
      },
    });
  }

  return gcp;
}

async function readJson(request: IncomingMessage): Promise<unknown> {
  let text = '';
  for await (const chunk of request as AsyncIterable<Buffer>) {
    text += chunk.toString('utf8');
    if (text.length > MAX_BODY) throw new ApiError(413, 'uploadTooLarge', 'The request is too large');
  }
  if (text === '') return undefined;
  try {
    return JSON.parse(text);
  } catch {
    throw new ApiError(400, 'parseError', 'Parse Error');
  }
}

function send(response: ServerResponse, { status, headers, body }: Answer): void {
  const text = body === undefined ? '' : JSON.stringify(body);
  response.writeHead(status, { ...headers, 'content-type': 'application/json; charset=UTF-8' });
  response.end(text);
}
