import {
  type Attestation,
  AttestationError,
  decodeAttestation,
  encodeAttestationForAll,
  eventLogToJson,
  stripForCertificate,
} from '@dstack-cloud/attestation';
import { toHex } from '@dstack-cloud/encoding';
import { type Command, textOf, type Values } from '../command-line/command.ts';
import { UtilError } from '../errors.ts';
import { readNamedFile } from '../files.ts';
import { writeOutput } from '../write-output.ts';
import { tpmQuoteJson } from './tpm-quote-json.ts';

const INPUT = { name: 'input', short: 'i', value: 'INPUT', help: 'input file (default: attestation.bin)' };
/** Names of the modes as the original's tools print them. */
const MODES: Readonly<Record<Attestation['quote']['mode'], string>> = {
  'dstack-tdx': 'DstackTdx',
  'dstack-gcp-tdx': 'DstackGcpTdx',
  'dstack-nitro-enclave': 'DstackNitroEnclave',
  'dstack-amd-sev-snp': 'DstackAmdSevSnp',
  'dstack-aws-nitro-tpm': 'DstackAwsNitroTpm',
};

const info: Command = {
  name: 'attest-info',
  about: 'Show size breakdown for a versioned attestation file',
  options: [INPUT],
  async run(values) {
    const { path, bytes, attestation } = await readAttestation(values);
    const { quote, config } = attestation;
    const events = 'eventLog' in quote ? quote.eventLog : [];
    const log = Buffer.byteLength(eventLogToJson(events, { strip: false }));
    const rows: (readonly [string, string | number])[] = [
      ['file', path],
      ['total_bytes', bytes.length],
      ['version', versionOf(bytes)],
      ['mode', MODES[quote.mode]],
      ['config_bytes', Buffer.byteLength(config)],
      ['tdx_quote_bytes', 'quote' in quote ? quote.quote.length : 0],
      ['event_log_entries', events.length],
      ['event_log_json_bytes', log],
      ['tpm_quote_bytes', 'tpmQuote' in quote ? quote.tpmQuote.message.length : 0],
    ];
    await writeOutput(undefined, rows.map(([name, value]) => `${name}: ${value}\n`).join(''));
  },
};

const json: Command = {
  name: 'attest-json',
  about: 'Dump a versioned attestation as JSON',
  options: [INPUT, { name: 'output', short: 'o', value: 'OUTPUT', help: 'output file (default: stdout)' }],
  async run(values) {
    const { bytes, attestation } = await readAttestation(values);
    const text = JSON.stringify(attestationJson(attestation, versionOf(bytes)), null, 2);
    const output = textOf(values, 'output');
    await writeOutput(output, output === undefined ? `${text}\n` : text);
  },
};

const strip: Command = {
  name: 'attest-strip',
  about: 'Strip attestation for certificate embedding',
  options: [
    INPUT,
    { name: 'output', short: 'o', value: 'OUTPUT', help: 'output file (default: attestation.strip.bin)' },
  ],
  async run(values) {
    const { attestation } = await readAttestation(values);
    const stripped = encodeAttestationForAll(stripForCertificate(attestation));
    await writeOutput(textOf(values, 'output') ?? 'attestation.strip.bin', stripped);
  },
};

/** Commands that read a file of evidence. */
export const EVIDENCE_FILE_COMMANDS: Readonly<Record<'info' | 'json' | 'strip', Command>> = {
  info,
  json,
  strip,
};

async function readAttestation(
  values: Values,
): Promise<{ path: string; bytes: Uint8Array; attestation: Attestation }> {
  const path = textOf(values, 'input') ?? 'attestation.bin';
  const bytes = await readNamedFile(path, 'Failed to read attestation file');
  try {
    return { path, bytes, attestation: decodeAttestation(bytes) };
  } catch (cause) {
    throw new UtilError('Failed to decode attestation', asRecorded(cause));
  }
}

/** Clients know these texts. */
function asRecorded(error: unknown): unknown {
  if (!(error instanceof AttestationError)) return error;
  if (error.code === 'unsupported' && error.message === 'Unknown attestation format')
    return new UtilError('Unknown attestation wire format');
  if (error.message === 'The attestation is empty') return new UtilError('Empty attestation bytes');
  const trailing = /(\d+) bytes too many/.exec(error.message)?.[1];
  return trailing === undefined
    ? error
    : new UtilError(`Trailing bytes after legacy VersionedAttestation: ${trailing}`);
}

function versionOf(bytes: Uint8Array): 'V0' | 'V1' {
  return bytes[0] === 0 ? 'V0' : 'V1';
}

function attestationJson({ quote, config }: Attestation, version: string): object {
  const tdx =
    'eventLog' in quote
      ? {
          quote: toHex(quote.quote),
          event_log: JSON.parse(eventLogToJson(quote.eventLog, { strip: false })) as unknown,
        }
      : null;
  return {
    version,
    mode: quote.mode,
    config,
    tdx_quote: tdx,
    tpm_quote: 'tpmQuote' in quote ? tpmQuoteJson(quote.tpmQuote) : null,
    ...('nsmQuote' in quote ? { nsm_quote: toHex(quote.nsmQuote) } : {}),
  };
}
