import { type Command, requiredText, textOf } from '../command-line/command.ts';
import { UtilError } from '../errors.ts';
import { appIdArgument } from '../hex-argument.ts';
import { getKeys } from '../keys/get-keys.ts';
import { KEY_FILE } from '../keys/key-file.ts';
import { thisMachine } from '../machine.ts';
import { note } from '../note.ts';
import { writeOutput, writeSecret } from '../write-output.ts';

export const getKeysCommand: Command = {
  name: 'get-keys',
  about: 'Get app keys from a KMS server',
  options: [
    {
      name: 'kms-url',
      short: 'k',
      value: 'KMS_URL',
      help: 'KMS server URL (e.g., https://kms.example.com)',
      required: true,
      unless: 'show-mrs',
    },
    { name: 'app-id', value: 'APP_ID', help: 'Application ID (20 bytes in hex) - optional' },
    {
      name: 'output',
      short: 'o',
      value: 'OUTPUT',
      help: 'File for the keys, mode 0600',
      default: KEY_FILE,
    },
    {
      name: 'root-ca',
      value: 'ROOT_CA',
      help: 'Root CA certificate of the KMS (ca_cert of GetTempCaCert, PEM), or a bundle with it: nothing else may answer',
    },
    {
      name: 'vsock-proxy',
      value: 'CID:PORT',
      help: 'Reach the KMS through the CONNECT proxy at this vsock address (the parent instance is CID 3)',
    },
    { name: 'show-mrs', help: 'Print PCR 0 to 2 and the OS image hash, and end without asking the KMS' },
    { name: 'eif', value: 'FILE', help: 'With --show-mrs: of this enclave image' },
    { name: 'measurements', value: 'FILE', help: 'With --show-mrs: of the JSON that nitro-cli prints' },
    { name: 'json', help: 'With --show-mrs: as JSON' },
    { name: 'dangerously-trust-any-kms', help: 'Without --root-ca: take keys from whoever answers' },
    { name: 'dangerously-print-keys', help: 'Print the keys on standard output instead of writing the file' },
  ],
  examples: `  dstack-util get-keys --kms-url https://kms.example.com:12001 --app-id 0x… --root-ca /app/root_ca.pem --vsock-proxy 3:3128
  dstack-util get-keys --show-mrs --eif enclave.eif
`,
  async run(values) {
    const machine = thisMachine();
    if (values['show-mrs']) {
      const { measurementLines, measurementsOf } = await import('../keys/show-mrs.ts');
      const found = await measurementsOf(
        { eif: textOf(values, 'eif'), measurements: textOf(values, 'measurements') },
        machine,
      );
      await writeOutput(undefined, values['json'] ? `${JSON.stringify(found)}\n` : measurementLines(found));
      return;
    }
    const stray = ['eif', 'measurements', 'json'].find((name) => name in values);
    if (stray !== undefined) throw new UtilError(`--${stray} goes with --show-mrs`);
    const id = textOf(values, 'app-id');
    const appId = id === undefined ? undefined : appIdArgument(id);
    const rootCa = textOf(values, 'root-ca');
    if (rootCa === undefined && !values['dangerously-trust-any-kms'])
      throw new UtilError(
        'no --root-ca: whoever answers at the URL could give keys of its own. Name the file of the KMS root (ca_cert of GetTempCaCert)',
      );
    const vsockProxy = textOf(values, 'vsock-proxy');
    const keys = await getKeys({
      kmsUrl: requiredText(values, 'kms-url'),
      rootCa,
      machine,
      say: note,
      ...(appId && { appId }),
      ...(vsockProxy !== undefined && { vsockProxy }),
    });
    if (values['dangerously-print-keys']) return await writeOutput(undefined, keys);
    const output = requiredText(values, 'output');
    await writeSecret(output, keys);
    note(`App keys written to: ${output}`);
  },
};
