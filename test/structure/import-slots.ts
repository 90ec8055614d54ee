type Slots = Readonly<Record<string, bigint>>;

/** Slots of the contracts, which the policy package keeps to itself. */
interface SlotsModule {
  readonly kmsSlot: Slots;
  readonly appSlot: Slots;
  readonly kmsExtensionSlot: Slots;
  readonly appExtensionSlot: Slots;
  readonly mappingSlot: (key: Uint8Array, mapping: bigint) => bigint;
}

export async function importSlots(): Promise<SlotsModule> {
  const path = new URL('../../packages/policy/src/chain/contracts/slots.ts', import.meta.url).pathname;
  return (await import(path)) as SlotsModule;
}
