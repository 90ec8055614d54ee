import { invalid, notFound } from '../api-error.ts';
import type { ComputeState } from './compute-state.ts';
import { readDiskArchive } from './image-archive.ts';
import type { Json, Request } from './resources.ts';

/** Requests of `images`. */
export function onImages(state: ComputeState, { verb, path, query, given, begin }: Request): object {
  const { images, storage } = state;
  const name = path['image'] ?? String(given['name']);
  if (verb === 'Get') return state.find(images, name).body;
  if (verb === 'List') {
    const bodies = [...images.values()].map(({ body }) => body);
    return state.list(bodies, query);
  }
  if (verb === 'Delete') {
    state.find(images, name);
    return begin(name, () => void images.delete(name));
  }
  if (verb !== 'Insert') throw invalid(`The emulator has no Images.${verb}`);
  state.newName(images, name, given);
  const source = String((given['rawDisk'] as Json | undefined)?.['source']);
  const match = /^https:\/\/storage\.googleapis\.com\/([^/]+)\/(.+)$/.exec(source);
  if (match === null) throw invalid(`Invalid value for field 'rawDisk.source': '${source}'`);
  const [, bucket, object] = match as unknown as [string, string, string];
  if (storage.buckets.get(bucket)?.objects.get(object) === undefined) throw notFound(`${bucket}/${object}`);
  return begin(name, async () => {
    const archive = storage.copyOf(bucket, object);
    const { size } = await readDiskArchive(archive);
    const diskSizeGb = String(size / 1024 ** 3);
    images.set(name, { archive, body: state.stamp({ ...given, status: 'READY', diskSizeGb }) });
  });
}
