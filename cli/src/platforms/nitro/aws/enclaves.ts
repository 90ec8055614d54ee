import { z } from 'zod';
import { CliError } from '../../../errors.ts';
import { ENCLAVE_NAME } from './host-script.ts';

const REGISTERS = ['PCR0', 'PCR1', 'PCR2', 'PCR8'] as const;
const schema = z.array(
  z.looseObject({
    EnclaveName: z.string().optional(),
    EnclaveID: z.string().optional(),
    State: z.string(),
    Flags: z.string().optional(),
    Measurements: z.looseObject({}).optional(),
  }),
);

/** What nitro-cli says of the enclave. The host can lie: only its attestation proves what runs. */
export interface RunningEnclave {
  readonly id: string;
  readonly state: string;
  readonly isDebug: boolean;
  readonly registers: Readonly<Record<string, string>>;
}

/** Reads what `nitro-cli describe-enclaves` printed; undefined when the enclave is not there. @throws CliError */
export function parseEnclaves(text: string): RunningEnclave | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text.slice(text.indexOf('[')));
  } catch {
    value = undefined;
  }
  const parsed = schema.safeParse(value);
  if (!parsed.success)
    throw new CliError('cloud_refused', 'The parent instance does not say which enclaves run', {
      expected: 'what nitro-cli describe-enclaves prints',
      found: text.trim().slice(0, 200) || 'nothing',
    });
  const found = parsed.data.find(({ EnclaveName }) => EnclaveName === ENCLAVE_NAME);
  if (found === undefined) return undefined;
  const registers = REGISTERS.flatMap((name) => {
    const hex = found.Measurements?.[name];
    return typeof hex === 'string' ? [[name, hex.toLowerCase()] as const] : [];
  });
  return {
    id: found.EnclaveID ?? '',
    state: found.State,
    isDebug: found.Flags === 'DEBUG_MODE',
    registers: Object.fromEntries(registers),
  };
}

/** Where the enclave that runs is not the one that was deployed, in sentences. */
export function driftOf(
  running: RunningEnclave,
  deployed: Readonly<Record<string, string>> | undefined,
): string[] {
  const drift = running.isDebug
    ? ['The enclave runs in debug mode: its registers are zero, and no key service gives it keys']
    : [];
  for (const [name, hex] of Object.entries(deployed ?? {})) {
    const now = running.registers[name];
    if (now !== undefined && now !== hex) drift.push(`The enclave that runs has ${name} ${now}`);
  }
  return drift;
}
