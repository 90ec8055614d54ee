export { AppError } from '../errors.ts';
export { ByteSource } from './byte-source.ts';
export { readTar, type TarEntry, type TarSink } from './read-tar.ts';
export { type TarKind, type TarMember, walkTar } from './walk-tar.ts';
