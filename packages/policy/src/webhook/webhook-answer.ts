import { z } from 'zod';
import { PolicyError } from '../errors.ts';
import type { HttpAnswer } from '../http/http-exchange.ts';
import type { Decision, PolicyInfo } from '../policy.ts';
import { cutAtCharacter, publicText } from '../public-text.ts';

const MAX_GATEWAY_APP_ID = 256;

/** All three keys are required and typed: a permission is never guessed. Extra keys are ignored. */
const decisionSchema = z.object({
  isAllowed: z.boolean(),
  gatewayAppId: z.string(),
  reason: z.string(),
  keyEpoch: z.int().min(0).max(0xffff_ffff).nullish(),
  minKeyEpoch: z.int().min(0).max(0xffff_ffff).nullish(),
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
  const { isAllowed, gatewayAppId, reason, keyEpoch, minKeyEpoch } = parseAnswer(answer, decisionSchema);
  if (gatewayAppId.length > MAX_GATEWAY_APP_ID) {
    throw new PolicyError('backend-answer', 'auth api answered a gatewayAppId that is too long');
  }
  return {
    allowed: isAllowed,
    reason: publicText(reason),
    gatewayAppId,
    ...(typeof keyEpoch === 'number' ? { keyEpoch } : {}),
    ...(typeof minKeyEpoch === 'number' ? { minKeyEpoch } : {}),
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
    return schema.parse(JSON.parse(body));
  } catch (cause) {
    const why = cause instanceof z.ZodError ? z.prettifyError(cause).replaceAll('\n', ' ') : 'not JSON';
    throw new PolicyError(
      'backend-answer',
      `failed to decode the answer of the auth api: ${why}, body=${shown}`,
      {
        cause,
      },
    );
  }
}
