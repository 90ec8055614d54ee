import { AppError, parseStrictJson } from '@dstack-cloud/app';
import { z } from 'zod';
import { PolicyError } from '../errors.ts';
import type { HttpAnswer } from '../http/http-exchange.ts';
import { outageOf } from '../outage-reasons.ts';
import type { Decision, PolicyInfo } from '../policy.ts';
import { cutAtCharacter, publicText } from '../public-text.ts';

const MAX_GATEWAY_APP_ID = 256;

/** Id of a root of the KMS, 20 bytes of hex. */
const rootId = z
  .string()
  .regex(/^(0x)?[0-9a-fA-F]{40}$/)
  .transform((text) => text.toLowerCase().replace(/^0x/, ''));

/** The first three keys are required and typed: a permission is never guessed. Extra keys are ignored. */
const decisionSchema = z.object({
  isAllowed: z.boolean(),
  gatewayAppId: z.string(),
  reason: z.string(),
  keyEpoch: z.int().min(0).max(0xffff_ffff).nullish(),
  minKeyEpoch: z.int().min(0).max(0xffff_ffff).nullish(),
  keyRoot: rootId.nullish(),
  previousKeyRoots: z.array(rootId).max(64).nullish(),
});

const infoSchema = z.object({
  status: z.string(),
  kmsContractAddr: z.string(),
  gatewayAppId: z.string(),
  chainId: z.int().nonnegative(),
  appImplementation: z.string(),
  ethRpcUrl: z.string().nullish(),
});

/** @throws PolicyError `backend-status` or `backend-answer` */
export function decisionFromAnswer(answer: HttpAnswer): Decision {
  const decision = parseAnswer(answer, decisionSchema);
  const { isAllowed, gatewayAppId, reason, keyEpoch, minKeyEpoch, keyRoot, previousKeyRoots } = decision;
  if (gatewayAppId.length > MAX_GATEWAY_APP_ID) {
    throw new PolicyError('backend-answer', 'auth api answered a gatewayAppId that is too long');
  }
  const failure = isAllowed ? undefined : outageOf(reason);
  return {
    allowed: isAllowed,
    reason: publicText(reason),
    gatewayAppId,
    ...(failure === undefined ? {} : { failure }),
    ...(typeof keyEpoch === 'number' ? { keyEpoch } : {}),
    ...(typeof minKeyEpoch === 'number' ? { minKeyEpoch } : {}),
    ...(typeof keyRoot === 'string' ? { keyRoot } : {}),
    ...(Array.isArray(previousKeyRoots) ? { previousKeyRoots } : {}),
  };
}

/** @throws PolicyError `backend-status` or `backend-answer` */
export function infoFromAnswer(answer: HttpAnswer): PolicyInfo {
  const { kmsContractAddr, gatewayAppId, chainId, appImplementation, ethRpcUrl } = parseAnswer(
    answer,
    infoSchema,
  );
  return {
    kmsContract: kmsContractAddr,
    gatewayAppId,
    chainId,
    appImplementation,
    ...(typeof ethRpcUrl === 'string' ? { ethRpcUrl } : {}),
  };
}

function parseAnswer<T>(answer: HttpAnswer, schema: z.ZodType<T>): T {
  const { status, statusText, body } = answer;
  const shown = publicText(body);
  if (status < 200 || status > 299) {
    const text = `auth api returned ${status} ${cutAtCharacter(publicText(statusText), 64)}: ${shown}`;
    throw new PolicyError('backend-status', text);
  }
  try {
    // Strict: what says both yes and no, by a key that comes twice, says neither.
    return schema.parse(parseStrictJson(body));
  } catch (cause) {
    const why = whyNot(cause);
    throw new PolicyError(
      'backend-answer',
      `failed to decode the answer of the auth api: ${why}, body=${shown}`,
      {
        cause,
      },
    );
  }
}

function whyNot(cause: unknown): string {
  if (cause instanceof z.ZodError) return z.prettifyError(cause).replaceAll('\n', ' ');
  return cause instanceof AppError ? `not JSON: ${publicText(cause.message)}` : 'not JSON';
}
