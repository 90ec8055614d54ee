import type { ImageReference } from './image-reference.ts';
import type { ArchivedImage } from './read-image-archive.ts';

/** Whether an image is what a reference names. A digest decides alone: a name beside it would be the archive's word only. */
export function isNamedBy(image: ArchivedImage, reference: ImageReference): boolean {
  switch (reference.kind) {
    case 'id':
      return image.id === reference.hex;
    case 'digest':
      return image.digests.includes(reference.hex);
    case 'tag':
      return image.names.includes(reference.name);
  }
}
