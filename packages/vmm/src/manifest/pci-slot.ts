/** An address, with or without its domain. */
export const PCI_SLOT: RegExp = /^(?:[0-9a-f]{4}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$/;

/** The address of a device in the form in which it is listed; undefined for what is no address. */
export function pciSlot(text: string): string | undefined {
  const lower = text.toLowerCase();
  return PCI_SLOT.test(lower) ? lower.replace(/^0000:/, '') : undefined;
}
