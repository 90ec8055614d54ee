export { type BuildImageOptions, buildImage, type ImageFiles } from './build/build-image.ts';
export { OsImageError, type OsImageErrorCode } from './errors.ts';
export { formatLock, type ImageLock, readLock } from './lock/image-lock.ts';
export { makeLock } from './lock/update-lock.ts';
