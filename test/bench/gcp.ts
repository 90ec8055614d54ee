/**
 * Platform gcp against the emulated Google Cloud: how long `plan` takes when nothing changed, and how fast a boot image is
 * uploaded, beside a bare upload of the same bytes to the same place; the memory that it takes for a disk of 2 GB.
 */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  createReadStream,
  ftruncateSync,
  openSync,
  readFileSync,
  statSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { build } from '@dstack-cloud/scripts/build';
import { type GcpLab, gcpLab } from '../harness/gcp/gcp-lab.ts';
import { median, type Result } from './result.ts';

const ROUNDS = 7;
const GIB = 1024 ** 3;
const DISK_BYTES = 2 * GIB;
/** What does not compress; the rest of the disk is empty. */
const CONTENT_BYTES = 192 * 1024 * 1024;
const PIECE = 8 * 1024 * 1024;
const MEMORY_POLL_MS = 50;

export async function run(): Promise<Result[]> {
  const { directory } = await build();
  const lab = await gcpLab();
  try {
    fillDisk(join(lab.images, 'dstack-cloud-0.6.0/disk.raw'));
    const program = join(directory, 'dstack-cloud.js');
    const upload = await measureUpload(lab, program);
    const bare = await bareUpload(lab, upload.archive);
    const times: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const started = performance.now();
      await command(lab, program, ['plan']);
      times.push(performance.now() - started);
    }
    const peer = { name: 'fetch of the same bytes', value: bare };
    return [
      { suite: 'gcp', name: 'plan-ms', value: median(times), unit: 'ms', n: ROUNDS, goal: { atMost: 1000 } },
      { suite: 'gcp', name: 'upload-mb-per-s', value: upload.rate, unit: 'MB/s', n: 1, peer },
      { suite: 'gcp', name: 'upload-rss-mb', value: upload.memory, unit: 'MB', n: 1, goal: { atMost: 150 } },
    ];
  } finally {
    await lab.cleanUp();
  }
}

/** Keeps the partition table that is there. */
function fillDisk(path: string): void {
  const disk = openSync(path, 'r+');
  try {
    for (let at = PIECE; at < CONTENT_BYTES; at += PIECE) writeSync(disk, randomBytes(PIECE), 0, PIECE, at);
    ftruncateSync(disk, DISK_BYTES);
  } finally {
    closeSync(disk);
  }
}

/** A first deploy: the time from the first piece of the boot image to the request after its last one. */
async function measureUpload(
  lab: GcpLab,
  program: string,
): Promise<{ rate: number; memory: number; archive: string }> {
  let begun: number | undefined;
  let ended: number | undefined;
  lab.gcp.fault = ({ method }) => {
    if (method === 'PUT') begun ??= performance.now();
    else if (begun !== undefined) ended ??= performance.now();
    return undefined;
  };
  const memory = await command(lab, program, ['deploy', '--yes', '--no-wait', '--no-policy-check']);
  lab.gcp.fault = undefined;
  const [image] = lab.gcp.compute.images.values();
  if (image === undefined || begun === undefined || ended === undefined)
    throw new Error('The deploy uploaded no boot image');
  const bytes = statSync(image.archive).size;
  return { rate: bytes / 1000 / (ended - begun), memory, archive: image.archive };
}

/** One `PUT` of the whole file, as a stream. @returns MB/s */
async function bareUpload({ gcp }: GcpLab, file: string): Promise<number> {
  const token = await fetch(`${gcp.origin}/v1/token`, { method: 'POST' });
  const { access_token } = (await token.json()) as { access_token: string };
  const headers = { authorization: `Bearer ${access_token}` };
  const [bucket] = gcp.storage.buckets.keys();
  const session = await fetch(
    `${gcp.origin}/upload/storage/v1/b/${bucket}/o?uploadType=resumable&name=bare`,
    { method: 'POST', headers: { ...headers, 'content-type': 'application/json' }, body: '{}' },
  );
  const bytes = statSync(file).size;
  const started = performance.now();
  const answer = await fetch(session.headers.get('location') ?? '', {
    method: 'PUT',
    headers: { ...headers, 'content-range': `bytes 0-${bytes - 1}/${bytes}` },
    body: Readable.toWeb(createReadStream(file)) as ReadableStream<Uint8Array>,
    duplex: 'half',
  } as RequestInit);
  if (!answer.ok) throw new Error(`The bare upload: ${answer.status} ${await answer.text()}`);
  return bytes / 1000 / (performance.now() - started);
}

/** Runs the command line as its users do. @returns the most memory that it had, MB */
async function command(lab: GcpLab, program: string, args: readonly string[]): Promise<number> {
  const env = { HOME: lab.root, DSTACK_CLOUD_CONFIG: join(lab.root, 'config.json'), ...lab.gcp.env };
  const child = spawn(process.execPath, [program, '-C', lab.project, ...args], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let complaint = '';
  child.stderr.on('data', (chunk: Buffer) => {
    complaint += chunk.toString('utf8');
  });
  let most = 0;
  const look = (): void => {
    try {
      const text = readFileSync(`/proc/${child.pid}/status`, 'utf8');
      most = Math.max(most, Number(/^VmHWM:\s+(\d+) kB$/m.exec(text)?.[1] ?? 0) / 1000);
    } catch {
      // It has ended.
    }
  };
  const timer = setInterval(look, MEMORY_POLL_MS);
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  clearInterval(timer);
  if (code !== 0) throw new Error(`dstack-cloud ${args.join(' ')}: ${complaint}`);
  return most;
}
