import type { IncomingMessage, RequestListener } from 'node:http';
import {
  type CallRecord,
  comesFromOtherSite,
  createPrpcHandler,
  guestApi,
  HostApi,
  implement,
  loginGuard,
  networkOf,
  openApiDocument,
  type PlainResponse,
  type PlainRoute,
  RpcError,
  type ServiceImplementation,
  TOO_MANY_LOGINS,
  TokenBuckets,
  Vmm,
} from '@dstack-cloud/prpc';
import type { Logger } from 'pino';
import { proxiedGuestRpc } from '../rpc/proxied-guest-rpc.ts';
import { publicError } from '../rpc/public-error.ts';
import { type VmmService, vmmRpc } from '../rpc/vmm-rpc.ts';
import { VERSION } from '../version.ts';
import { type CallSubject, namingSubject } from './call-subject.ts';
import { consolePage } from './console-page.ts';
import { logRoute } from './log-route.ts';
import type { Metrics } from './metrics.ts';
import type { Operators } from './operators.ts';

const UNAUTHORIZED: PlainResponse = {
  status: 401,
  // Alone: browsers do not ask for a password when another scheme stands in the same line.
  headers: { 'WWW-Authenticate': 'Basic realm="dstack-vmm"' },
  body: 'A credential is missing or wrong\n',
};
/** Browsers remember a Basic password and send it along for the pages of others. */
const FROM_OTHER_SITE: PlainResponse = { status: 403, body: 'Requests from other sites are refused\n' };

/** An app-compose.json, an environment and a user's configuration, as JSON. */
const LARGE_BODY = 4 * 2 ** 20;
const LARGE = {
  CreateVm: LARGE_BODY,
  UpdateVm: LARGE_BODY,
  UpgradeApp: LARGE_BODY,
  GetComposeHash: LARGE_BODY,
};
/** Methods that change a machine, or make this host ask another. */
const CHANGES = new Set([
  ...['CreateVm', 'StartVm', 'StopVm', 'ShutdownVm', 'RemoveVm', 'UpdateVm', 'UpgradeApp', 'ResizeVm'],
  ...[
    'ReloadVms',
    'GetAppEnvEncryptPubKey',
    'Shutdown',
    'SvStop',
    'SvRemove',
    'ListRegistryImages',
    'PullRegistryImage',
    'DeleteImage',
  ],
]);
const MAX_BUFFERED = 64 * 2 ** 20;
const MAX_ERROR = 512;

interface HandlerOptions {
  readonly service: VmmService;
  readonly operators: Operators;
  readonly metrics: Metrics;
  readonly log: Logger;
}

/** Everything that the service answers. */
export function vmmHandler({ service, operators, metrics, log }: HandlerOptions): RequestListener {
  const { config, machines } = service;
  const logins = loginGuard((result, source) => {
    metrics.loginFailed(result);
    if (result === 'wrong') log.warn({ source }, 'login failed');
  });
  const perMinute = config.limits.changes_per_minute;
  const changes = new TokenBuckets(perMinute, perMinute, () => performance.now());
  const subjects = new WeakMap<IncomingMessage, CallSubject>();
  const page = consolePage(config.node_name);
  const pages = ['/', '/v1', '/beta', '/v0'].map((path): PlainRoute => ({ path, handle: () => page }));
  return createPrpcHandler<CallSubject>({
    mounts: [
      // The second is the name that the oldest clients know.
      { path: '/prpc', trim: ['Vmm.', 'Teepod.'], services: [namingSubject(vmmRpc(service))], limits: LARGE },
      { path: '/guest', trim: 'ProxiedGuestApi.', services: [namingSubject(proxiedGuestRpc(machines))] },
      { path: '/api', trim: 'HostApi.', services: [hostApi()] },
    ],
    routes: [
      ...pages,
      logRoute(machines, config.limits.log_streams),
      { path: '/health', handle: () => ({ body: 'OK' }) },
      { path: '/metrics', handle: async () => ({ type: metrics.contentType, body: await metrics.text() }) },
      documentRoute('/api-docs', Vmm, '/prpc'),
      documentRoute('/prpc/openapi.json', Vmm, '/prpc'),
      documentRoute('/guest/openapi.json', guestApi.ProxiedGuestApi, '/guest'),
    ],
    guard: async (request) => {
      if (!operators.isOpen) {
        if (!operators.showsCredential(request)) {
          logins.missing();
          return UNAUTHORIZED;
        }
        const login = await logins.check(request, () => operators.isOne(request));
        if (login !== 'right') return login === 'limited' ? TOO_MANY_LOGINS : UNAUTHORIZED;
      }
      return comesFromOtherSite(request) ? FROM_OTHER_SITE : undefined;
    },
    before: (request, { method }) => {
      const subject: CallSubject = { vm: undefined };
      subjects.set(request, subject);
      if (!CHANGES.has(method)) return subject;
      if (!changes.take(`${operators.nameOf(request)} ${networkOf(request.socket.remoteAddress ?? '')}`))
        throw new RpcError('Too many changes; try again later', { code: 'RATE_LIMITED', status: 429 });
      return subject;
    },
    headers: { Server: 'dstack-vmm', 'X-App-Version': `v${VERSION} (git:)`, 'X-Accel-Buffering': 'no' },
    maxBufferedBytes: MAX_BUFFERED,
    onCall: (call) => record(call),
    publicError,
  });

  function record(call: CallRecord): void {
    const { method, known, status, durationMs, error, request, mount } = call;
    const failed = status >= 400;
    metrics.call(known ? method : 'unknown', failed ? 'error' : 'ok', durationMs / 1000);
    const who = operators.nameOf(request);
    const source = networkOf(request.socket.remoteAddress ?? '');
    const fields = {
      who,
      source,
      mount,
      method: known ? method : 'unknown',
      status,
      ms: Math.round(durationMs),
    };
    const vm = subjects.get(request)?.vm;
    const subject = vm === undefined ? {} : { vm };
    if (failed) {
      const reason = error instanceof Error ? error.message.slice(0, MAX_ERROR) : '';
      log.warn({ ...fields, ...subject, error: reason }, 'rpc refused');
    } else if (CHANGES.has(method)) log.info({ ...fields, ...subject }, 'machine changed');
    else log.debug({ ...fields, ...subject }, 'rpc');
  }
}

/** Guests reach their host through a door of their own; whoever calls from here is none. */
function hostApi(): ServiceImplementation<CallSubject> {
  const refuse = (): never => {
    throw new RpcError('Only guests may call this, over their vsock', { code: 'UNAUTHORIZED' });
  };
  return implement(HostApi)<CallSubject>({ Info: refuse, Notify: refuse, GetSealingKey: refuse });
}

function documentRoute(
  path: string,
  service: Parameters<typeof openApiDocument>[0],
  mount: string,
): PlainRoute {
  let text: string | undefined;
  return {
    path,
    handle: () => {
      text ??= JSON.stringify(openApiDocument(service, { title: 'dstack-vmm', version: VERSION, mount }));
      return { type: 'application/json', body: text };
    },
  };
}
