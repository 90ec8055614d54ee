import {
  parseTime,
  ROOT_NAMES,
  readExpectations,
  splitExpectation,
  type VerifierPolicy,
  type VerifyFileInput,
} from '@dstack-cloud/verifier/browser';
import { byId } from './element.ts';

/** The settings of the form, without the evidence. @throws VerifierError for a time or an expectation that is none */
export async function readForm(): Promise<Omit<VerifyFileInput, 'evidence'>> {
  const now = valueIn('now');
  const pccs = valueIn('pccs');
  const reportData = valueIn('report-data');
  const [root] = await filesOf('root-file');
  const rootName = byId('root-name', HTMLSelectElement).value;
  const name = ROOT_NAMES.find((known) => known === rootName);
  return {
    collateral: await filesOf('collateral'),
    chain: await filesOf('chain'),
    policy: readPolicy(byId('expect', HTMLTextAreaElement).value),
    firmwareEndorsement: byId('endorsement', HTMLInputElement).checked,
    ...(now === '' ? {} : { now: parseTime(now) }),
    ...(pccs === '' ? {} : { pccs }),
    ...(reportData === '' ? {} : { reportData }),
    ...(root && name ? { roots: [{ name, certificate: root }] } : {}),
  };
}

/** Fills the choice of roots. */
export function fillRootNames(): void {
  const select = byId('root-name', HTMLSelectElement);
  for (const name of ROOT_NAMES) select.add(new Option(name, name));
}

function readPolicy(text: string): VerifierPolicy {
  const pairs = text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')
    .map(splitExpectation);
  return { expect: readExpectations(pairs) };
}

function valueIn(id: string): string {
  return byId(id, HTMLInputElement).value.trim();
}

async function filesOf(id: string): Promise<Uint8Array[]> {
  const files = [...(byId(id, HTMLInputElement).files ?? [])];
  return Promise.all(files.map(async (file) => new Uint8Array(await file.arrayBuffer())));
}
