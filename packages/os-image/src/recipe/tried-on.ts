/** Where images of this recipe were booted, and how far; docs/os-image.md has the same table. */
export const TRIED_ON: readonly { readonly where: string; readonly what: string }[] = [
  {
    where: 'QEMU 7.2 with OVMF and a software TPM, software emulation',
    what: 'stub and kernel with a small initramfs, and all registers of the boot',
  },
  {
    where: 'QEMU 7.2, direct boot, software emulation, simulated TEE',
    what: 'everything: from power-on to the application',
  },
  { where: 'TDX, GCP, AWS', what: 'not tried' },
];
