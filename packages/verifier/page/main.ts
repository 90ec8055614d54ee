import {
  AttestationError,
  evidenceAddress,
  fetchEvidence,
  isUrl,
  MAX_EVIDENCE_BYTES,
  VerifierError,
  type VerifyFileInput,
  verifyFile,
} from '@dstack-cloud/verifier/browser';
import { byId, element } from './element.ts';
import { fillRootNames, readForm } from './read-form.ts';
import { renderReport } from './render-report.ts';

/** More dropped at once is a mistake, or an attempt to keep the browser busy. */
const MAX_FILES = 32;

interface NamedFile {
  readonly name: string;
  readonly bytes: Uint8Array;
  /** An address is of whoever is to be verified; a file is the reader's own. */
  readonly from: 'file' | 'address';
  /** With which it was asked for. */
  readonly nonce?: Uint8Array | undefined;
}

const status = byId('status', HTMLParagraphElement);
const reports = byId('reports', HTMLDivElement);
const drop = byId('drop', HTMLLabelElement);
const evidence = byId('evidence', HTMLInputElement);
const source = byId('source', HTMLInputElement);

fillRootNames();
let chosen: readonly NamedFile[] = [];
let running = 0;

byId('form', HTMLFormElement).addEventListener('submit', (event) => {
  event.preventDefault();
  void run(fromField);
});
evidence.addEventListener('change', () => {
  const files = [...(evidence.files ?? [])];
  // Emptied, so that the same file can be chosen again.
  evidence.value = '';
  if (files.length > 0) void run(() => readFiles(files));
});
for (const name of ['dragenter', 'dragover']) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.add('over');
  });
}
for (const name of ['dragleave', 'drop'])
  document.addEventListener(name, () => drop.classList.remove('over'));
document.addEventListener('drop', (event) => {
  event.preventDefault();
  const files = [...(event.dataTransfer?.files ?? [])];
  if (files.length > 0) void run(() => readFiles(files));
});

/** What the text field holds; when it is empty, the files of the last time with the settings of now. */
async function fromField(): Promise<readonly NamedFile[]> {
  const text = source.value.trim();
  if (text === '') {
    if (chosen.length > 0) return chosen;
    throw new VerifierError('usage', 'Drop a file, or paste a URL or evidence');
  }
  if (isUrl(text)) {
    const address = evidenceAddress(text);
    return [{ name: text, bytes: await fetchEvidence(address), from: 'address', nonce: address.nonce }];
  }
  return [{ name: 'pasted text', bytes: new TextEncoder().encode(text), from: 'file' }];
}

async function readFiles(files: readonly File[]): Promise<readonly NamedFile[]> {
  if (files.length > MAX_FILES) throw new VerifierError('too-large', `More than ${MAX_FILES} files`);
  source.value = '';
  return Promise.all(
    files.map(async (file) => {
      if (file.size > MAX_EVIDENCE_BYTES) throw new VerifierError('too-large', `${file.name} is too large`);
      return { name: file.name, bytes: new Uint8Array(await file.arrayBuffer()), from: 'file' as const };
    }),
  );
}

/** The newest question wins: what an older one finds out later is not shown. */
async function run(read: () => Promise<readonly NamedFile[]>): Promise<void> {
  running += 1;
  const mine = running;
  status.textContent = 'Checking…';
  reports.replaceChildren();
  const made = await verifyAll(read).catch((error: unknown) => [problem(error)]);
  if (mine !== running) return;
  reports.replaceChildren(...made);
  status.textContent = made.length === 1 ? 'Done' : `Done: ${made.length} files`;
  reports.querySelector('h2')?.focus();
}

async function verifyAll(read: () => Promise<readonly NamedFile[]>): Promise<HTMLElement[]> {
  const files = await read();
  chosen = files;
  const settings = await readForm();
  // What an address gave is evidence: whoever is to be verified does not choose the collateral.
  const isCollateral = files.map(({ bytes, from }) => from === 'file' && looksLikeCollateral(bytes));
  const dropped = files.filter((_, i) => isCollateral[i]).map(({ bytes }) => bytes);
  const pieces = files.filter((_, i) => !isCollateral[i]);
  if (pieces.length === 0)
    throw new VerifierError('usage', 'That is collateral only: drop the evidence with it');
  const all = { ...settings, collateral: [...(settings.collateral ?? []), ...dropped] };
  const made: HTMLElement[] = [];
  for (const piece of pieces) made.push(await verifyOne(piece, all));
  return made;
}

async function verifyOne(
  { name, bytes, from, nonce }: NamedFile,
  settings: Omit<VerifyFileInput, 'evidence'>,
): Promise<HTMLElement> {
  try {
    const challenge = nonce === undefined ? {} : { nonce };
    return renderReport(name, await verifyFile({ ...settings, ...challenge, evidence: bytes, from }));
  } catch (error) {
    return problem(error, name);
  }
}

/** DCAP or vTPM collateral: a JSON object with a member that no evidence has. */
function looksLikeCollateral(bytes: Uint8Array): boolean {
  if (bytes[0] !== 0x7b) return false;
  try {
    const json = JSON.parse(new TextDecoder().decode(bytes)) as object;
    return 'tcb_info' in json || 'cert_chain_pem' in json;
  } catch {
    return false;
  }
}

function problem(error: unknown, name?: string): HTMLElement {
  const known = error instanceof VerifierError || error instanceof AttestationError;
  const text = known ? error.message : 'Something went wrong in this page; its console has the details';
  if (!known) console.error(error);
  const code = known ? [' ', element('code', {}, error.code)] : [];
  return element(
    'p',
    { class: 'problem', role: 'alert' },
    name === undefined ? text : `${name}: ${text}`,
    ...code,
  );
}
