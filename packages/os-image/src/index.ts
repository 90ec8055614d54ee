export { type BootRegisters, bootRegisters, bootRegistersOf } from './boot-registers.ts';
export { protectRoot, writeDisk } from './build/assemble.ts';
export { type BuildImageOptions, buildImage, COMPRESSION, type ImageFiles } from './build/build-image.ts';
export type { Flavour } from './build/command-line.ts';
export { checkDisk } from './check-disk.ts';
export { checkImage } from './check-image.ts';
export { checkRoot } from './check-root.ts';
export {
  type BuildContainersOptions,
  buildContainers,
  type ContainerFiles,
  containerFileNames,
} from './containers/build-containers.ts';
export { CONTAINER_PROGRAMS } from './containers/container-recipe.ts';
export { type DifferenceKind, diffImages, type ImageDifference } from './diff-images.ts';
export { OsImageError, type OsImageErrorCode } from './errors.ts';
export { type CpioEntry, writeCpio } from './formats/cpio.ts';
export { type FatOptions, writeFat32 } from './formats/fat32.ts';
export { type Gpt, type Partition, writeGpt } from './formats/gpt.ts';
export { type Stub, type UkiParts, writeUki } from './formats/uki.ts';
export { imagesDiskSize, writeImagesDisk } from './images-disk/write-images-disk.ts';
export { formatLock, type ImageLock, readLock } from './lock/image-lock.ts';
export { type LockChange, lockChanges } from './lock/lock-changes.ts';
export { makeLock } from './lock/update-lock.ts';
export {
  type ChangedFile,
  changedFiles,
  imageNames,
  type OsImageFolder,
  readImage,
  sha256File,
} from './read-image.ts';
export { DISK } from './recipe/recipe.ts';
export { recipeFolder } from './recipe/recipe-folder.ts';
