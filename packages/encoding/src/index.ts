export { fromBase64, fromBase64Url, toBase64, toBase64Url } from './base64.ts';
export { ByteReader } from './byte-reader.ts';
export { ByteWriter } from './byte-writer.ts';
export {
  compareBytes,
  concatBytes,
  equalBytes,
  equalConstantTime,
  isZero,
  padRight,
  utf8,
  utf8Text,
} from './bytes.ts';
export { bytesFromText, type TextBytes } from './bytes-from-text.ts';
export { type CborLimits, decodeCbor, encodeCbor, MAX_CBOR_ITEMS } from './cbor.ts';
export { type DerElement, DerReader, readDer } from './der/der-reader.ts';
export { contextTag, derTag } from './der/der-tag.ts';
export { derTime } from './der/der-time.ts';
export { derBitString, derBoolean, derInteger, derOctetString, derOid, derText } from './der/der-values.ts';
export { der } from './der/der-writer.ts';
export { ecdsaDerToRaw, ecdsaRawToDer } from './der/ecdsa.ts';
export { EncodingError, type EncodingErrorCode } from './errors.ts';
export { escapeHtml } from './escape-html.ts';
export { type FromHexOptions, fromHex, toHex } from './hex.ts';
export { escapeNonAscii } from './json.ts';
export { decodeMsgpack, encodeMsgpack, type MsgpackLimits } from './msgpack.ts';
export { MsgpackView } from './msgpack-view.ts';
export { nearestName } from './nearest-name.ts';
export { decodePem, decodePemAll, encodePem } from './pem.ts';
export {
  type LogDestination,
  type PrintableOptions,
  printable,
  printableJson,
  printableLine,
  printableLog,
  printableMessage,
  UNPRINTABLE,
} from './printable.ts';
export { ScaleReader } from './scale/scale-reader.ts';
export { ScaleWriter } from './scale/scale-writer.ts';
