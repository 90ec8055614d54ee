import { randomBytes } from 'node:crypto';
import { toHex } from '@dstack-cloud/encoding';
import type { GcpImage } from './api/compute-api.ts';
import { explainGcp, isConflict } from './api/gcp-error.ts';
import { type Upload, uploadObject } from './api/upload-object.ts';
import type { GcpPlace } from './gcp-place.ts';
import { MADE_BY, OWNER, ownLabels } from './resources.ts';

/** What an image is made of. */
export interface ImageSource extends Pick<Upload, 'content' | 'record' | 'onProgress'> {
  readonly name: string;
  readonly features: readonly string[];
  readonly description: string;
  readonly labels?: Readonly<Record<string, string>>;
  /** An image of that name is there and makes room, but only once the upload is complete. */
  readonly replaces?: boolean;
}

/** A name that was never used, so that what belongs to it is from this run. */
export function freshName(prefix: string): string {
  return `${prefix}-${toHex(randomBytes(4))}`;
}

/** Uploads a disk, makes an image of it, and removes the upload: it can hold secrets. */
export async function makeImage(gcp: GcpPlace, source: ImageSource): Promise<void> {
  const { settings, session, compute, storage } = gcp;
  const { name, features, description, labels, replaces } = source;
  const { bucket } = settings;
  const object = `${name}.tar.gz`;
  const metadata = { [MADE_BY]: '1', [OWNER]: settings.owner };
  try {
    await uploadObject(session, { ...source, bucket, name: object, metadata });
    if (replaces === true) await compute.remove('global', 'images', name);
    const endpoint = 'https://storage.googleapis.com';
    await compute.run('POST', ['global', 'images'], {
      name,
      description,
      rawDisk: { source: `${endpoint}/${bucket}/${object}` },
      guestOsFeatures: features.map((type) => ({ type })),
      architecture: 'X86_64',
      labels: { ...ownLabels(settings), ...labels },
    });
  } catch (error) {
    // Another run of this program made it a moment ago, from the same content.
    if (!isConflict(error)) throw explainGcp(`Image ${name}`, error);
  }
  await storage.removeObject(bucket, object);
}

export async function findImage({ compute }: GcpPlace, name: string): Promise<GcpImage | undefined> {
  return await compute.find<GcpImage>('global', 'images', name);
}
