import { createServer } from 'node:http';
import {
  Admin,
  comesFromOtherSite,
  configureServer,
  createPrpcHandler,
  implement,
  isOperator,
  type OperatorAccess,
  type PasswordCheck,
  showsCredential,
  TOO_MANY_LOGINS,
} from '@dstack-cloud/prpc';
import { auditPage } from '../audit/audit-rpc.ts';
import type { Trust } from '../evidence/trust.ts';
import type { Kms } from '../kms.ts';
import { ADMIN_BODY_LIMITS } from '../server/body-limits.ts';
import { callFailure, stepOf } from '../server/call-log.ts';
import { type Listener, listen } from '../server/listen.ts';
import { openApiRoute } from '../server/open-api.ts';
import { watchedConnections } from '../server/watched-connections.ts';
import { watchedLogins } from '../server/watched-logins.ts';
import { checkBoot } from './check-boot.ts';

const UNAUTHORIZED = {
  status: 401,
  headers: { 'WWW-Authenticate': 'Basic realm="dstack-kms admin"' },
  body: '',
};

/** Browsers remember a Basic password and send it along for the pages of others. */
const FROM_OTHER_SITE = { status: 403, body: 'Requests from other sites are refused\n' };

/** The admin listener (docs/protocol/kms.md section 7): every path wants a credential. */
export async function startAdminListener(
  kms: Kms,
  trust: Trust,
  checkPassword: PasswordCheck | undefined,
): Promise<Listener> {
  const { admin } = kms.config.core;
  const logins = watchedLogins('admin', kms);
  const access: OperatorAccess = { header: 'x-admin-token', token: admin.auth_token, checkPassword };
  const handler = createPrpcHandler({
    mounts: [
      {
        path: '/prpc',
        trim: 'Admin.',
        limits: ADMIN_BODY_LIMITS,
        services: [
          implement(Admin)<undefined>({
            ClearImageCache: (request) => kms.images.clear(request),
            CheckBoot: (request) => checkBoot(kms, trust, request),
            GetAuditLog: (request) => auditPage(kms, request),
          }),
        ],
      },
    ],
    routes: [openApiRoute(Admin, 'dstack-kms admin')],
    guard: async (request) => {
      if (!admin.insecure_no_auth) {
        if (!showsCredential(request, access)) {
          logins.missing();
          return UNAUTHORIZED;
        }
        const login = await logins.check(request, () => isOperator(request, access));
        if (login !== 'right') return login === 'limited' ? TOO_MANY_LOGINS : UNAUTHORIZED;
      }
      return comesFromOtherSite(request) ? FROM_OTHER_SITE : undefined;
    },
    headers: { Server: 'dstack-kms' },
    onCall: ({ method, known, status, error, request }) => {
      const fields = { method: known ? method : 'unknown', status };
      if (status < 400) return kms.log.info(fields, 'admin rpc');
      kms.metrics.refused.inc({ step: stepOf(error, known) });
      kms.log.error({ ...fields, ...callFailure(request, error) }, 'admin rpc failed');
    },
  });
  const server = configureServer(createServer(handler), watchedConnections(kms));
  const listener = await listen(server, admin.address, admin.port);
  kms.log.info({ address: listener.address, port: listener.port }, 'admin listener started');
  return listener;
}
