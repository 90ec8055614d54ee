/** May this workload have keys? One interface, four sources: chain, webhook, allow-list, dev. */

export type { BootInfo } from '@dstack-cloud/attestation';
export { type AllowListOptions, allowListPolicy } from './allow-list/allow-list-policy.ts';
export { assertBootInfo } from './assert-boot-info.ts';
export { isPlainRemote, isRemote, type NamedAddress, plainHttpWarnings } from './backend-url.ts';
export type { ChainEvent } from './chain/chain-event.ts';
export type { ChainPolicyOptions, Finality } from './chain/chain-options.ts';
export { type ChainPolicy, type ChainStatus, chainPolicy } from './chain/chain-policy.ts';
export { MAX_POLICY_DELAY_SECONDS } from './chain/contracts/delay-denial.ts';
export { type CodeName, codeNames, KnownCode } from './chain/contracts/known-code.ts';
export { type DevPolicyOptions, devPolicy } from './dev/dev-policy.ts';
export { PolicyError, type PolicyErrorCode } from './errors.ts';
export type { BootKind, Decision, DecisionFailure, Policy, PolicyInfo } from './policy.ts';
export { publicText } from './public-text.ts';
export { webhookBody } from './webhook/webhook-body.ts';
export { type WebhookPolicyOptions, webhookPolicy } from './webhook/webhook-policy.ts';
