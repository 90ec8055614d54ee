import type { IncomingMessage, RequestListener } from 'node:http';
import { toHex } from '@dstack-cloud/encoding';
import {
  comesFromOtherSite,
  create,
  createPrpcHandler,
  implement,
  isOperator,
  type LoginGuard,
  Onboard,
  type OperatorAccess,
  type PasswordCheck,
  type PlainResponse,
  kms as proto,
  RpcError,
  showsCredential,
  TOO_MANY_LOGINS,
  withJsonExtras,
} from '@dstack-cloud/prpc';
import { KmsError } from '../errors.ts';
import { keyDirectoryState } from '../key-directory/commit.ts';
import { callFailure, stepOf } from '../server/call-log.ts';
import { openApiRoute } from '../server/open-api.ts';
import { healthRoute } from '../server/plain-routes.ts';
import { watchedLogins } from '../server/watched-logins.ts';
import { attestationInfo } from './attestation-info.ts';
import { bootstrap } from './bootstrap.ts';
import type { OnboardingContext } from './onboarding-context.ts';
import { replicate } from './replicate.ts';
import { SETUP_PAGE, SETUP_PAGE_HEADERS } from './setup-page.ts';

const UNAUTHORIZED: PlainResponse = {
  status: 401,
  headers: { 'WWW-Authenticate': 'Bearer, Basic realm="dstack-kms onboard"' },
  body: 'The onboard token is missing or wrong\n',
};
const NOT_YET = 'There are no keys yet: call Onboard.Bootstrap or Onboard.Onboard first';

/**
 * The onboarding listener (docs/protocol/kms.md section 6.1): one bootstrap or replication at a time.
 * @param checkPassword of the users that are configured, if any
 * @param finish called once when the operator is done; the answer has been given by then
 */
export function onboardHandler(
  onboarding: OnboardingContext,
  checkPassword: PasswordCheck | undefined,
  finish: () => void,
): RequestListener {
  const { config, log, metrics } = onboarding;
  const logins = watchedLogins('onboard', onboarding);
  const { token } = config.core.onboard;
  const access: OperatorAccess = { header: 'x-onboard-token', token, checkPassword };
  let last: Promise<unknown> = Promise.resolve();
  const oneAtATime = <T>(run: () => Promise<T>): Promise<T> => {
    const next = last.then(run, run);
    last = next.catch(() => undefined);
    return next;
  };
  const finished = async (): Promise<boolean> => {
    await last;
    if ((await keyDirectoryState(config.core.cert_dir)) !== 'keys') return false;
    // Leaves time to write the answer before the listener closes.
    setTimeout(finish, 10);
    return true;
  };
  return createPrpcHandler({
    mounts: [
      {
        path: '/prpc',
        trim: 'Onboard.',
        services: [
          implement(Onboard)<undefined>({
            GetAttestationInfo: () => attestationInfo(onboarding),
            Bootstrap: ({ domain }) => oneAtATime(() => bootstrapAnswer(onboarding, domain)),
            Onboard: async ({ sourceUrl, domain }) => ({
              k256Pubkey: await oneAtATime(() => replicate(onboarding, sourceUrl, domain)),
            }),
            Finish: async () => {
              if (!(await finished())) throw new RpcError(NOT_YET, { code: 'INVALID_ARGUMENT', status: 409 });
            },
          }),
        ],
      },
    ],
    routes: [
      healthRoute,
      openApiRoute(Onboard, 'dstack-kms onboarding'),
      {
        path: '/',
        handle: () => ({ type: 'text/html; charset=utf-8', headers: SETUP_PAGE_HEADERS, body: SETUP_PAGE }),
      },
      {
        path: '/finish',
        handle: async () => ((await finished()) ? { body: 'OK' } : { status: 409, body: `${NOT_YET}\n` }),
      },
    ],
    guard: (request) => guard(request, access, logins),
    headers: { Server: 'dstack-kms' },
    // Only the operator reaches this listener, so errors of the KMS are shown in full.
    publicError: (error) =>
      error instanceof KmsError ? { text: error.message, code: 'INTERNAL_ERROR', status: 400 } : undefined,
    onCall: ({ method, known, status, durationMs, error, request }) => {
      const fields = { method: method.slice(0, 64), status, ms: Math.round(durationMs) };
      if (status < 400) return log.info(fields, 'onboard rpc');
      metrics.refused.inc({ step: stepOf(error, known) });
      log.error({ ...fields, ...callFailure(request, error) }, 'onboard rpc failed');
    },
  });
}

async function bootstrapAnswer(
  onboarding: OnboardingContext,
  domain: string,
): Promise<proto.BootstrapResponse> {
  const info = await bootstrap(onboarding, domain);
  // The documented names, in JSON only (section 9).
  const own = await onboarding.self.identity().catch(() => undefined);
  return withJsonExtras(create(proto.BootstrapResponseSchema, info), {
    members: {
      publicKey: toHex(info.k256Pubkey),
      measurement: own === undefined ? '' : toHex(own.info.mrAggregated),
      ...(onboarding.simulated ? { simulated: true } : {}),
    },
  });
}

/** Health and the page are open; everything else needs a credential, if any is configured, and must not come from another site. */
async function guard(
  request: IncomingMessage,
  access: OperatorAccess,
  logins: LoginGuard,
): Promise<PlainResponse | undefined> {
  const path = (request.url ?? '').split('?')[0];
  if (path === '/health' || path === '/') return undefined;
  if (comesFromOtherSite(request)) {
    return { status: 403, body: 'Requests from other sites are refused\n' };
  }
  if (access.token === '' && access.checkPassword === undefined) return undefined;
  if (!showsCredential(request, access)) {
    logins.missing();
    return UNAUTHORIZED;
  }
  const login = await logins.check(request, () => isOperator(request, access));
  if (login === 'right') return undefined;
  return login === 'limited' ? TOO_MANY_LOGINS : UNAUTHORIZED;
}
