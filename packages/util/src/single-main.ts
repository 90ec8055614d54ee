/** Both programs for enclaves as one executable: which of them it is says the name that it is started by. */
import { basename } from 'node:path';

void (basename(process.argv0) === 'dstack-enclave-init'
  ? import('./enclave/enclave-init-main.ts')
  : import('./main.ts'));
