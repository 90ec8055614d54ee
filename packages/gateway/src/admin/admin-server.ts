import { createServer, type Server } from 'node:http';
import {
  CONNECTION_LIMITS,
  comesFromOtherSite,
  configureServer,
  createPrpcHandler,
  isOperator,
  loginGuard,
  type OperatorAccess,
  type PlainRoute,
  showsCredential,
  TOO_MANY_LOGINS,
} from '@dstack-cloud/prpc';
import type { Metrics } from '../metrics.ts';
import { type AdminOptions, adminMethods } from './admin-service.ts';
import { dashboardPage } from './dashboard-page.ts';

const UNAUTHORIZED = {
  status: 401,
  headers: { 'WWW-Authenticate': 'Basic realm="dstack-gateway admin"' },
  body: '',
};
/** Browsers remember a Basic password and send it along for the pages of others. */
const FROM_OTHER_SITE = { status: 403, body: 'Requests from other sites are refused\n' };

export type AdminServerOptions = AdminOptions & {
  /** Empty only for a Unix socket, whose mode says who may use it. */
  readonly token: string;
  readonly metrics: Metrics;
  readonly onCall: (method: string, status: number) => void;
  /** Unix seconds. */
  readonly now: () => number;
};

/** The operators' listener: methods at `/prpc`, a page at `/`, metrics at `/metrics`; every path wants the credential. */
export function createAdminServer(options: AdminServerOptions): Server {
  const { token, metrics, fleet, baseDomain, now, onCall } = options;
  const access: OperatorAccess = { header: 'x-admin-token', token, checkPassword: undefined };
  const logins = loginGuard((result) => metrics.login(result));
  const handler = createPrpcHandler<undefined>({
    mounts: [{ path: '/prpc', trim: 'Admin.', services: [adminMethods(options)] }],
    routes: [{ path: '/', handle: () => dashboardPage(fleet, baseDomain, now()) }, metricsRoute(metrics)],
    guard: async (request) => {
      if (token !== '') {
        if (!showsCredential(request, access)) {
          logins.missing();
          return UNAUTHORIZED;
        }
        const login = await logins.check(request, () => isOperator(request, access));
        if (login !== 'right') return login === 'limited' ? TOO_MANY_LOGINS : UNAUTHORIZED;
      }
      return comesFromOtherSite(request) ? FROM_OTHER_SITE : undefined;
    },
    headers: { Server: 'dstack-gateway' },
    onCall: ({ method, known, status }) => onCall(known ? method : 'unknown', status),
  });
  return configureServer(createServer(handler), CONNECTION_LIMITS);
}

/** Metrics alone, for a collector that gets no credential. */
export function createMetricsServer(metrics: Metrics): Server {
  const handler = createPrpcHandler<undefined>({ mounts: [], routes: [metricsRoute(metrics)] });
  return configureServer(createServer(handler), CONNECTION_LIMITS);
}

function metricsRoute(metrics: Metrics): PlainRoute {
  return {
    path: '/metrics',
    handle: async () => ({ type: metrics.contentType, body: await metrics.text() }),
  };
}
