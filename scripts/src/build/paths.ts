import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Top folder of the checkout. */
export const repository: string = resolve(dirname(fileURLToPath(import.meta.url)), '../../..');
export const distDirectory: string = join(repository, 'dist');
/** Where the bundled programs lie. */
export const binDirectory: string = join(distDirectory, 'bin');
/** What the OS image gets of the guest's programs, with the native modules that they load. */
export const guestDirectory: string = join(distDirectory, 'guest');
/** What enclave images get: the init, dstack-util and the guest agent. */
export const enclaveDirectory: string = join(distDirectory, 'enclave');
/** What the parent instance of enclaves on AWS gets: the proxy and the units of systemd. */
export const nitroHostDirectory: string = join(distDirectory, 'nitro-host');
/** What container images get of the services' programs: one folder for each. */
export const containersDirectory: string = join(distDirectory, 'containers');
/** The verifier for browsers: a page in one file, and the library as an ES module. */
export const verifierPageDirectory: string = join(distDirectory, 'verifier-page');
