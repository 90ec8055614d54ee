import { utf8 } from '@dstack-cloud/encoding';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { DeviceFault, type DeviceFiles } from '../device-files.ts';
import { tsmQuote } from './tsm-quote.ts';

const REPORT_DATA = new Uint8Array(64).fill(5);
const QUOTE = new Uint8Array(4000).fill(1);

/** A report entry that behaves, except where a test makes it misbehave. */
class FakeEntry implements DeviceFiles {
  provider = 'tdx_guest\n';
  generation = 41;
  step = 1;
  quote: Uint8Array = QUOTE;
  inblob: Uint8Array | undefined;
  writeFaults: string[] = [];
  readFaults: string[] = [];
  afterRead: () => void = () => {};
  generationText = (): string => `${this.generation}\n`;

  async read(file: string): Promise<Uint8Array> {
    if (file === 'provider') return utf8(this.provider);
    if (file === 'generation') return utf8(this.generationText());
    const fault = this.readFaults.shift();
    if (fault) throw new DeviceFault(fault, `read ${fault}`);
    this.afterRead();
    return this.quote;
  }
  async write(_file: string, data: Uint8Array): Promise<void> {
    const fault = this.writeFaults.shift();
    if (fault) throw new DeviceFault(fault, `write ${fault}`);
    this.inblob = data;
    this.generation += this.step;
  }
  exclusive<T>(body: () => Promise<T>): Promise<T> {
    return body();
  }
  async close(): Promise<void> {}
}

const quick = { busyDelayMs: 1, pollMs: 1, timeoutMs: 200 };

describe('the generation protocol', () => {
  test('gives the outblob that belongs to the report data', async () => {
    const entry = new FakeEntry();
    expect(await tsmQuote(entry, REPORT_DATA, quick)).toEqual(QUOTE);
    expect(entry.inblob).toEqual(REPORT_DATA);
  });

  test('waits for a generation that changes late', async () => {
    const entry = new FakeEntry();
    let looks = 0;
    entry.generationText = () => `${looks++ < 5 ? 41 : 42}`;
    expect(await tsmQuote(entry, REPORT_DATA, quick)).toEqual(QUOTE);
  });

  test('tries a busy device three times', async () => {
    const entry = new FakeEntry();
    entry.writeFaults = ['EBUSY', 'EBUSY'];
    entry.readFaults = ['EINTR', 'ETIMEDOUT'];
    expect(await tsmQuote(entry, REPORT_DATA, quick)).toEqual(QUOTE);
    entry.writeFaults = ['EBUSY', 'EBUSY', 'EBUSY'];
    await expect(tsmQuote(entry, REPORT_DATA, quick)).rejects.toMatchObject({
      code: 'device',
      found: 'EBUSY',
    });
    entry.writeFaults = [];
    entry.readFaults = ['EBUSY', 'EBUSY', 'EBUSY'];
    await expect(tsmQuote(entry, REPORT_DATA, quick)).rejects.toMatchObject({ found: 'EBUSY' });
  });

  test.each<[string, Partial<FakeEntry> | ((entry: FakeEntry) => Partial<FakeEntry>), object]>([
    ['another provider', { provider: 'sev_guest\n' }, { expected: 'tdx_guest', found: 'sev_guest' }],
    ['a provider that is no text', { provider: '' }, { found: '' }],
    ['a generation that is no number', { generationText: () => '-1' }, { found: '-1' }],
    ['a second writer', { step: 2 }, { found: 'generation went from 41 to 43' }],
    [
      'a second writer while the quote is read',
      (entry) => ({ afterRead: () => void entry.generation++ }),
      { found: 'generation went from 42 to 43 while the quote was read' },
    ],
    ['a generation that never changes', { step: 0 }, { found: 'ETIMEDOUT' }],
    ['a refused write', { writeFaults: ['EINVAL'] }, { found: 'EINVAL' }],
    ['a refused read', { readFaults: ['ENXIO'] }, { found: 'ENXIO' }],
    ['no quote', { quote: new Uint8Array() }, { found: '0' }],
    ['a quote that is too short', { quote: new Uint8Array(1020) }, { found: '1020' }],
    ['a quote that fills the buffer', { quote: new Uint8Array(8192) }, { found: '8192' }],
  ])('refuses %s', async (_, fault, found) => {
    const entry = new FakeEntry();
    Object.assign(entry, typeof fault === 'function' ? fault(entry) : fault);
    await expect(tsmQuote(entry, REPORT_DATA, quick)).rejects.toMatchObject({ code: 'device', ...found });
  });

  test.each([0, 63, 65])('refuses report data of %i bytes', async (length) => {
    await expect(tsmQuote(new FakeEntry(), new Uint8Array(length))).rejects.toMatchObject({
      code: 'malformed',
    });
  });

  test('never gives a quote when any other writer acts at any moment', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 0, max: 8 }), async (moment) => {
        const entry = new FakeEntry();
        const owner = { data: entry.inblob };
        let operations = 0;
        const disturb = (): void => {
          if (operations++ !== moment) return;
          entry.generation++;
          entry.inblob = owner.data = new Uint8Array(64).fill(9);
        };
        const disturbed: DeviceFiles = {
          read: async (file) => {
            disturb();
            const data = file === 'outblob' ? tagged(entry.inblob) : await entry.read(file);
            return data;
          },
          write: async (file, data) => {
            disturb();
            await entry.write(file, data);
          },
          exclusive: (body) => body(),
          close: async () => {},
        };
        const quote = await tsmQuote(disturbed, REPORT_DATA, quick).catch(() => undefined);
        expect(quote === undefined || quote[0] === REPORT_DATA[0]).toBe(true);
      }),
    );
  });
});

function tagged(inblob: Uint8Array | undefined): Uint8Array {
  return new Uint8Array(2000).fill(inblob?.[0] ?? 0);
}
