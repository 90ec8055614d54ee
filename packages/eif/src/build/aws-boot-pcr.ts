import type { Architecture } from '../format/header.ts';

/** PCR 1 of the kernel, command line and init that AWS publishes with nitro-cli 1.4, hex. */
export const AWS_BOOT_PCR: Readonly<Record<Architecture, string>> = {
  x86_64: '0343b056cd8485ca7890ddd833476d78460aed2aa161548e4e26bedf321726696257d623e8805f3f605946b3d8b0c6aa',
  aarch64: '745004eab9a0fb4a67973b261c6e7fa5418dc870292927591574385649338e54686cdeb659f3c6c2e72ba11aba2158a8',
};
