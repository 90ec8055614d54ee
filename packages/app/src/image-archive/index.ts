export { type ByteRange, fileRange, partOf, piecesOf } from './byte-range.ts';
export { isNamedBy } from './find-image.ts';
export { type ImageReference, parseImageReference } from './image-reference.ts';
export { imageStream } from './image-stream.ts';
export {
  type ArchivedImage,
  type ImageLayout,
  readImageArchive,
  readImageFiles,
} from './read-image-archive.ts';
export { type TarFile, tarFiles } from './tar-members.ts';
