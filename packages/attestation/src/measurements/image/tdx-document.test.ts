import fc from 'fast-check';
import { expect, it } from 'vitest';
import { encodeTdxDocument, parseTdxDocument, type TdxMeasurementDocument } from './tdx-document.ts';

const digest = fc.uint8Array({ minLength: 48, maxLength: 48 });
const page = fc.integer({ min: 0, max: 2 ** 20 }).map((number) => number * 4096);
const range = fc.tuple(page, page).map(([start, size]) => ({ start, end: start + size }));

it('a TDX measurement document reads back as it was written', () => {
  const documents = fc.record<TdxMeasurementDocument>({
    commandLineSha384: digest,
    kernelAuthenticode: digest,
    initrdSha384: digest,
    ovmfVariant: fc.constantFrom('pre202505', 'stable202505'),
    mrtd: fc.record({ singlePass: digest, twoPass: digest }),
    hob: fc.record({ address: page, accepted: fc.array(range, { maxLength: 8 }) }),
  });
  fc.assert(
    fc.property(documents, (document) => {
      expect(parseTdxDocument(encodeTdxDocument(document))).toEqual(document);
    }),
  );
});
