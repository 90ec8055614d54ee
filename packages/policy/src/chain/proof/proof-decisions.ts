import { toHex } from '@dstack-cloud/encoding';
import { BoundedMap } from '@dstack-cloud/runtime';
import { PolicyError } from '../../errors.ts';
import type { ChainSettings } from '../chain-options.ts';
import type { ContractInfo } from '../contract-info.ts';
import { checksumAddress } from '../contracts/checksum-address.ts';
import { type DelayedContract, delayDenial, enforcesDelay, noDelayCode } from '../contracts/delay-denial.ts';
import { delaySince, delaySlots } from '../contracts/delay-slots.ts';
import { type AppLogic, type KmsLogic, KnownCode } from '../contracts/known-code.ts';
import { IMPLEMENTATION_SLOT, kmsSlot, slotBytes } from '../contracts/slots.ts';
import { readText, textSlots } from '../contracts/solidity-text.ts';
import type { ContractDecision, DecisionReader } from '../decision-reader.ts';
import type { Block } from '../rpc/block.ts';
import type { ChainSnapshot } from '../snapshot/read-snapshot.ts';
import { askEndpoints } from './ask-endpoints.ts';
import { appChecks, firstDenial, kmsChecks, slotsOf } from './contract-checks.ts';
import { ProvenFacts, ProvenState } from './proven-state.ts';
import { type Contract, proxiedContract } from './proxied-contract.ts';

const MAX_GATEWAY_APP_ID = 256;
/** What was proven is kept for so many blocks: head and finalized block of a few snapshots. */
const MAX_BLOCKS = 4;
/** Accounts and slots that are kept of a block; who asks chooses them, so then all are proven again. */
const MAX_FACTS = 20_000;

/** What contracts were last time: mostly they still are, and then one exchange is enough. */
type Guess<Logic> = { logic: Logic; implementation: string } | undefined;

/**
 * Verdicts computed here from storage that is proven to be in the state of the block. Only
 * the block's hash has to be right: an endpoint that lies about anything else is found out and not believed.
 */
export class ProofDecisions {
  readonly #settings: ChainSettings;
  readonly #kms: string;
  readonly #codes: KnownCode;
  readonly #facts = new BoundedMap<string, ProvenFacts>(MAX_BLOCKS);
  #guessedKms: Guess<KmsLogic>;
  #guessedApp: Guess<AppLogic>;

  constructor(settings: ChainSettings) {
    this.#settings = settings;
    this.#kms = settings.kmsContract.toLowerCase();
    this.#codes = new KnownCode(settings.knownCode);
  }

  readonly readDecision: DecisionReader = async (snapshot, block, { kind, info }) => {
    const question = { kind, info, time: block.timestamp };
    const app = `0x${toHex(info.appId)}`;
    const [guessedKms, guessedApp] = [this.#guessedKms, this.#guessedApp];
    const state = this.#stateAt(snapshot, block);
    // Harmless where the code has no delay: these slots are then never written.
    const delays = this.#settings.requireTimelockSeconds === undefined ? [] : delaySlots;
    await state.load([
      {
        address: this.#kms,
        slots: [
          IMPLEMENTATION_SLOT,
          kmsSlot.gatewayAppId,
          ...delays,
          ...(guessedKms ? slotsOf(kmsChecks(guessedKms.logic, question)) : []),
        ],
      },
      ...(guessedKms ? [{ address: guessedKms.implementation, slots: [] }] : []),
      ...(kind === 'app' && app !== this.#kms
        ? [
            {
              address: app,
              slots: [
                IMPLEMENTATION_SLOT,
                ...delays,
                ...(guessedApp ? slotsOf(appChecks(guessedApp.logic, question)) : []),
              ],
            },
            ...(guessedApp ? [{ address: guessedApp.implementation, slots: [] }] : []),
          ]
        : []),
    ]);

    const kms = await this.#kmsContract(state);
    if (kms.is !== 'known') return denied(`KMS ${kms.why}`, '');
    const checks = kmsChecks(kms.logic, question);
    await state.load([{ address: this.#kms, slots: [...slotsOf(checks), ...delays] }]);
    const gatewayAppId = await this.#gatewayAppId(state);
    const denial = firstDenial(checks, (slot) => state.slot(this.#kms, slot));
    if (denial !== undefined) return denied(denial, gatewayAppId);
    const kmsDelay = (): string | undefined => this.#delayDenial(state, 'KMS', this.#kms, kms.logic, block);
    if (kind === 'kms') {
      const reason = kmsDelay() ?? '';
      return { allowed: reason === '', reason, gatewayAppId };
    }

    const contract = await proxiedContract(state, this.#codes, app, 'app');
    if (contract.is === 'absent') return denied('App not deployed or invalid address', gatewayAppId);
    if (contract.is === 'unknown') return denied(`App ${contract.why}`, gatewayAppId);
    this.#guessedApp = contract;
    const own = appChecks(contract.logic, question);
    await state.load([{ address: app, slots: [...slotsOf(own), ...delays] }]);
    const reason =
      firstDenial(own, (slot) => state.slot(app, slot)) ??
      kmsDelay() ??
      this.#delayDenial(state, 'App', app, contract.logic, block) ??
      '';
    return { allowed: reason === '', reason, gatewayAppId };
  };

  /** Why what a contract allows does not count yet. */
  #delayDenial(
    state: ProvenState,
    contract: DelayedContract,
    address: string,
    logic: KmsLogic | AppLogic,
    { timestamp }: Block,
  ): string | undefined {
    const { requireTimelockSeconds: required } = this.#settings;
    if (required === undefined) return undefined;
    if (!enforcesDelay(logic)) return noDelayCode(contract, logic);
    const since = delaySince((slot) => state.slot(address, slot), required);
    return delayDenial(contract, required, since, timestamp);
  }

  /** What the KMS contract says of itself. @throws PolicyError */
  async describe(snapshot: ChainSnapshot): Promise<ContractInfo> {
    const state = this.#stateAt(snapshot, snapshot.head);
    const slots = [IMPLEMENTATION_SLOT, kmsSlot.gatewayAppId, kmsSlot.appImplementation];
    await state.load([{ address: this.#kms, slots }]);
    const kms = await this.#kmsContract(state);
    if (kms.is !== 'known') throw new PolicyError('chain-mismatch', `KMS ${kms.why}`);
    const implementation = toHex(slotBytes(state.slot(this.#kms, kmsSlot.appImplementation)).subarray(12));
    return {
      gatewayAppId: await this.#gatewayAppId(state),
      appImplementation: checksumAddress(`0x${implementation}`),
    };
  }

  #stateAt(snapshot: ChainSnapshot, block: Block): ProvenState {
    // The header is held to number and time too, so facts of one are not facts of the other.
    const name = `${block.hash}/${block.number}/${block.timestamp}`;
    const kept = this.#facts.get(name);
    const facts = kept && kept.size < MAX_FACTS ? kept : new ProvenFacts();
    this.#facts.set(name, facts);
    return new ProvenState(block, askEndpoints(snapshot.endpoints, this.#settings), facts);
  }

  async #kmsContract(state: ProvenState): Promise<Exclude<Contract<KmsLogic>, { is: 'absent' }>> {
    const contract = await proxiedContract(state, this.#codes, this.#kms, 'kms');
    if (contract.is === 'absent') {
      throw new PolicyError('chain-mismatch', 'There is no DstackKms contract at the configured address');
    }
    if (contract.is === 'known') this.#guessedKms = contract;
    return contract;
  }

  async #gatewayAppId(state: ProvenState): Promise<string> {
    const storage = (slot: bigint): bigint => state.slot(this.#kms, slot);
    const more = textSlots(kmsSlot.gatewayAppId, storage(kmsSlot.gatewayAppId)) ?? [];
    if (more.length > 0) await state.load([{ address: this.#kms, slots: more }]);
    const text = readText(storage, kmsSlot.gatewayAppId);
    if (text !== undefined && text.length <= MAX_GATEWAY_APP_ID) return text;
    throw new PolicyError('chain-mismatch', 'The KMS contract has no usable gatewayAppId');
  }
}

function denied(reason: string, gatewayAppId: string): ContractDecision {
  return { allowed: false, reason, gatewayAppId };
}
