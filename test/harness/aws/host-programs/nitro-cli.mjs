#!/usr/bin/env node
// nitro-cli, as far as the scripts use it: it measures images by a reader of its own, and remembers what runs.
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';

const STATE = '/run/enclaves.json';
const [verb, ...words] = process.argv.slice(2);
const options = Object.fromEntries(
  words.flatMap((word, at) => (word.startsWith('--') ? [[word.slice(2), words[at + 1]]] : [])),
);
const running = existsSync(STATE) ? JSON.parse(readFileSync(STATE, 'utf8')) : [];
const save = (all) => writeFileSync(STATE, JSON.stringify(all));
const refuse = (code, text) => {
  console.error(`[ ${code} ] ${text}`);
  process.exit(1);
};
const sha384 = (...parts) => parts.reduce((hash, part) => hash.update(part), createHash('sha384')).digest();
const pcr = (parts) => sha384(Buffer.alloc(48), sha384(...parts)).toString('hex');

function measure(path) {
  const image = readFileSync(path);
  const sections = [];
  for (let at = 548; at < image.length; ) {
    const size = Number(image.readBigUInt64BE(at + 4));
    sections.push({ type: image.readUInt16BE(at), data: image.subarray(at + 12, at + 12 + size) });
    at += 12 + size;
  }
  const of = (type) => sections.filter((one) => one.type === type).map(({ data }) => data);
  const [kernel, cmdline, ramdisks] = [of(1), of(2), of(3)];
  return {
    HashAlgorithm: 'Sha384 { ... }',
    PCR0: pcr([...kernel, ...cmdline, ...ramdisks]),
    PCR1: pcr([...kernel, ...cmdline, ramdisks[0]]),
    PCR2: pcr(ramdisks.slice(1)),
  };
}

if (verb === 'describe-enclaves') console.log(JSON.stringify(running, null, 2));
else if (verb === 'terminate-enclave') {
  const left = running.filter(({ EnclaveName }) => EnclaveName !== options['enclave-name']);
  if (left.length === running.length) refuse('E49', 'No such enclave');
  save(left);
} else if (verb === 'run-enclave') {
  if (existsSync('/run/refuses')) refuse(...readFileSync('/run/refuses', 'utf8').trim().split(' '));
  const image = readFileSync(options['eif-path']);
  if (Number(options.memory) * 2 ** 20 < 4 * image.length) refuse('E26', 'Insufficient memory requested');
  if (Number(options['enclave-cid']) < 4) refuse('E30', 'Unsupported enclave context id');
  const made = {
    EnclaveName: options['enclave-name'],
    EnclaveID: `i-0123456789abcdef0-enc${String(Date.now()).padStart(16, '0')}`,
    ProcessID: process.pid,
    EnclaveCID: Number(options['enclave-cid']),
    NumberOfCPUs: Number(options['cpu-count']),
    CPUIDs: [1, 3],
    MemoryMiB: Number(options.memory),
  };
  save([
    ...running,
    { ...made, State: 'RUNNING', Flags: 'NONE', Measurements: measure(options['eif-path']) },
  ]);
  console.log(JSON.stringify(made));
} else refuse('E01', `No command ${verb}`);
