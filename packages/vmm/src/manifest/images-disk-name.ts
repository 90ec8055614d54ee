/** Name of a machine's disk with container images: by content, so that no update changes the disk of the one before. */
export function imagesDiskName(digest: string): string {
  return `images-${digest.slice(0, 16)}.tar`;
}

/** Whether a file of a machine is a disk with container images. */
export function isImagesDisk(name: string): boolean {
  return /^images-[0-9a-f]{16}\.tar$/.test(name);
}
