import type { BootInfo } from '@dstack-cloud/attestation';
import { utf8 } from '@dstack-cloud/encoding';
import { keccak256 } from '@dstack-cloud/keys';
import type { BootKind } from '../../policy.ts';
import type { AppLogic, KmsLogic } from '../contracts/known-code.ts';
import { appExtensionSlot, appSlot, kmsExtensionSlot, kmsSlot, mappingSlot } from '../contracts/slots.ts';
import type { Storage } from '../contracts/solidity-text.ts';

/** One line of a contract's decision: reads slots of its storage, and denies or not. */
export type Check = {
  readonly reason: string;
  readonly slots: readonly bigint[];
  /** @param values of `slots`, in order */
  readonly denies: (...values: bigint[]) => boolean;
};

/** A workload and the block's time, unix seconds. */
export type Question = { readonly kind: BootKind; readonly info: BootInfo; readonly time: number };

/** What DstackKms checks itself, in order. */
export function kmsChecks(logic: KmsLogic, question: Question): Check[] {
  const { kind, info } = question;
  const isExtended = logic !== 'dstack-kms-0.6';
  const extension = (...checks: Check[]): Check[] => (isExtended ? checks : []);
  const image = [
    allowed('OS image is not allowed', mappingSlot(info.osImageHash, kmsSlot.allowedOsImages)),
    ...extension(
      unexpired(
        'OS image authorization expired',
        mappingSlot(info.osImageHash, kmsExtensionSlot.osNotAfter),
        question,
      ),
    ),
  ];
  const first = extension(paused(), deniedAdvisory(info.advisoryIds));
  if (kind === 'kms') {
    return [
      ...first,
      upToDate(info),
      ...image,
      allowed('Aggregated MR not allowed', mappingSlot(info.mrAggregated, kmsSlot.kmsAllowedAggregatedMrs)),
      allowed(
        'KMS is not allowed to boot on this device',
        mappingSlot(info.deviceId, kmsSlot.kmsAllowedDeviceIds),
      ),
    ];
  }
  return [
    ...first,
    allowed('App not registered', mappingSlot(info.appId, kmsSlot.registeredApps)),
    ...extension(
      {
        reason: 'App is blocked',
        slots: [mappingSlot(info.appId, kmsExtensionSlot.blocked)],
        denies: isTrue,
      },
      unexpired('App authorization expired', mappingSlot(info.appId, kmsExtensionSlot.appNotAfter), question),
    ),
    ...image,
  ];
}

/** What DstackApp checks, in order. */
export function appChecks(logic: AppLogic, question: Question): Check[] {
  const { info } = question;
  const tcb = upToDate(info);
  return [
    ...(logic === 'dstack-app-0.6'
      ? []
      : [{ ...tcb, slots: [appSlot.requireTcbUpToDate], denies: (v = 0n) => isTrue(v) && tcb.denies() }]),
    allowed('Compose hash not allowed', mappingSlot(info.composeHash, appSlot.allowedComposeHashes)),
    ...(logic === 'dstack-app-3' || logic === 'dstack-app-3.1'
      ? [
          unexpired(
            'Compose hash expired',
            mappingSlot(info.composeHash, appExtensionSlot.composeNotAfter),
            question,
          ),
        ]
      : []),
    {
      reason: 'Device not allowed',
      slots: [appSlot.flags, mappingSlot(info.deviceId, appSlot.allowedDeviceIds)],
      denies: (flags = 0n, device = 0n) => !isTrue(flags >> 8n) && !isTrue(device),
    },
  ];
}

/** The slots that checks read. */
export function slotsOf(checks: readonly Check[]): bigint[] {
  return [...new Set(checks.flatMap(({ slots }) => slots))];
}

/** Reason of the first check that denies. */
export function firstDenial(checks: readonly Check[], storage: Storage): string | undefined {
  return checks.find(({ slots, denies }) => denies(...slots.map(storage)))?.reason;
}

/** A Solidity bool is the lowest byte. */
const isTrue = (value = 0n): boolean => (value & 0xffn) !== 0n;

function allowed(reason: string, slot: bigint): Check {
  return { reason, slots: [slot], denies: (value) => !isTrue(value) };
}

/** Compared byte by byte on chain; the texts are equal exactly when their bytes are. */
function upToDate({ tcbStatus }: BootInfo): Check {
  return { reason: 'TCB status is not up to date', slots: [], denies: () => tcbStatus !== 'UpToDate' };
}

/** A `uint64` of unix seconds; 0 is for ever, and the last second counts. */
function unexpired(reason: string, slot: bigint, { time }: Question): Check {
  return {
    reason,
    slots: [slot],
    denies: (value = 0n) => {
      const notAfter = BigInt.asUintN(64, value);
      return notAfter !== 0n && BigInt(time) > notAfter;
    },
  };
}

function paused(): Check {
  return {
    reason: 'KMS contract is paused',
    slots: [kmsExtensionSlot.state],
    denies: (state = 0n) => isTrue(state >> 64n),
  };
}

function deniedAdvisory(advisoryIds: readonly string[]): Check {
  return {
    reason: 'Advisory is denied',
    slots: advisoryIds.map((id) => mappingSlot(keccak256(utf8(id)), kmsExtensionSlot.deniedAdvisories)),
    denies: (...values) => values.some(isTrue),
  };
}
