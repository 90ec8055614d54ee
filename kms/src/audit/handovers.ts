import { join } from 'node:path';
import { readFileBounded, writeFileAtomic } from '@dstack-cloud/app';
import {
  AuditError,
  type AuditLog,
  type RootHandover,
  type RootNames,
  rootNames,
  signHandover,
} from '@dstack-cloud/audit-log';
import { toHex, utf8Text } from '@dstack-cloud/encoding';
import { z } from 'zod';
import type { KmsKeys, Root } from '../key-directory/kms-keys.ts';
import { MAX_RETIRED_ROOTS } from '../key-directory/load-history.ts';

/** Beside the log: hand-overs outlive the retired roots that signed them, and the records that were rotated away. */
const FILE = 'handovers.json';
const MAX_FILE_BYTES = 256 * 1024;

const hex = (bytes: number) => z.string().regex(new RegExp(`^[0-9a-f]{${2 * bytes}}$`));
/** Public keys of a root, as a hand-over names them. */
type NamesJson = { readonly ca_pubkey: string; readonly k256_pubkey: string; readonly audit_pubkey: string };

/** A hand-over as JSON; bytes in hex. */
export type HandoverJson = { readonly from: NamesJson; readonly to: NamesJson; readonly signature: string };

const names = z.strictObject({ ca_pubkey: hex(91), k256_pubkey: hex(33), audit_pubkey: hex(33) });
const schema = z.array(z.strictObject({ from: names, to: names, signature: hex(65) })).max(MAX_RETIRED_ROOTS);

/**
 * Sees to it that the log has a record of every change of root that these keys know of, and gives all hand-overs, the
 * oldest first. A crash after the record and before the file leaves a record that is found again.
 * @throws AuditError when the record or the file cannot be written or read: then nothing may be released
 */
export async function recordHandovers(
  log: Pick<AuditLog, 'append' | 'records' | 'size'>,
  directory: string,
  keys: KmsKeys,
): Promise<HandoverJson[]> {
  const known = await read(directory);
  const missing = handoversOf(keys)
    .map(toJson)
    .filter(({ signature }) => !known.some((other) => other.signature === signature));
  if (missing.length === 0) return known;
  const recent = await log.records(Math.max(0, log.size - missing.length), missing.length);
  for (const handover of missing) {
    const entry = {
      old_root: handover.from.k256_pubkey,
      new_root: handover.to.k256_pubkey,
      handover: handover.signature,
    };
    const written = recent.some((line) => {
      const record = JSON.parse(line) as Record<string, unknown>;
      return record['event'] === 'root-rotation' && record['handover'] === handover.signature;
    });
    if (!written) await log.append({ event: 'root-rotation', decision: 'allowed', ...entry });
  }
  const all = [...known, ...missing];
  await write(directory, all);
  return all;
}

/** What each retired root says of its successor, where both are at hand; the oldest first. */
function handoversOf(keys: KmsKeys): RootHandover[] {
  const all: readonly Root[] = [keys, ...keys.history];
  return [...keys.history].reverse().flatMap((root) => {
    const successor = all.find(({ id }) => id === root.successor);
    if (successor === undefined) return [];
    return [signHandover(namesOf(root), namesOf(successor), root.roots.k256)];
  });
}

function namesOf({ roots, rootCa }: Root): RootNames {
  return rootNames(roots, rootCa.key.spki);
}

function toJson({ from, to, signature }: RootHandover): HandoverJson {
  return { from: namesJson(from), to: namesJson(to), signature: toHex(signature) };
}

function namesJson({ caPubkey, k256Pubkey, auditPubkey }: RootNames): NamesJson {
  return { ca_pubkey: toHex(caPubkey), k256_pubkey: toHex(k256Pubkey), audit_pubkey: toHex(auditPubkey) };
}

async function read(directory: string): Promise<HandoverJson[]> {
  const path = join(directory, FILE);
  let text: string;
  try {
    text = utf8Text(await readFileBounded(path, MAX_FILE_BYTES));
  } catch (cause) {
    if ((cause as { code?: string }).code === 'file-missing') return [];
    throw new AuditError('malformed', `${path} cannot be read`, { cause });
  }
  try {
    return schema.parse(JSON.parse(text));
  } catch (cause) {
    throw new AuditError('malformed', `${path} holds no hand-overs`, { cause });
  }
}

async function write(directory: string, handovers: readonly HandoverJson[]): Promise<void> {
  try {
    await writeFileAtomic(join(directory, FILE), `${JSON.stringify(handovers, null, 2)}\n`);
  } catch (cause) {
    throw new AuditError('write-failed', 'The hand-overs of the roots cannot be written', { cause });
  }
}
