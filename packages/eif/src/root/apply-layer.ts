import type { ByteSource } from '../byte-source.ts';
import { EifError } from '../errors.ts';
import { type ByteName, type RootEntry, type RootTree, shown } from './root-tree.ts';
import { type LayerMember, walkLayer } from './walk-layer.ts';

const WHITEOUT = '.wh.';
const OPAQUE = '.wh..wh..opq';

/**
 * Puts a layer on the tree. Hard links become files of their own: a ramdisk that is unpacked name by name needs no links, and
 * the bytes do not depend on which name came first.
 *
 * @param warn told of what gets lost
 */
export async function applyLayer(
  source: ByteSource,
  tree: RootTree,
  layer: number,
  warn: (line: string) => void,
): Promise<void> {
  for await (const member of walkLayer(source)) {
    if (member.attributes.some((name) => name === 'security.capability'))
      warn(`${shown(member.name)} loses its file capabilities: a ramdisk has none`);
    if (!hides(member.name, tree, layer)) tree.set(member.name, toEntry(member, source, tree), layer);
  }
}

/** Names that take away instead of adding (image-spec, layer.md, "Whiteouts"). */
function hides(path: ByteName, tree: RootTree, layer: number): boolean {
  const slash = path.lastIndexOf('/') + 1;
  const [folder, name] = [path.slice(0, slash), path.slice(slash)];
  if (!name.startsWith(WHITEOUT)) return false;
  if (name === OPAQUE) tree.opaque(folder, layer);
  // Other names with this double prefix are notes of AUFS to itself.
  else if (!name.startsWith(`${WHITEOUT}${WHITEOUT}`))
    tree.whiteout(folder + name.slice(WHITEOUT.length), layer);
  return true;
}

function toEntry(member: LayerMember, source: ByteSource, tree: RootTree): RootEntry {
  const { mode, uid, gid, major, minor } = member;
  switch (member.kind) {
    case 'file':
      return { kind: 'file', mode, uid, gid, size: member.size, content: { source, offset: member.offset } };
    case 'symlink':
      return { kind: 'symlink', mode: 0o777, uid, gid, target: member.linkName };
    case 'character-device':
    case 'block-device':
      return { kind: member.kind, mode, uid, gid, major, minor };
    case 'link': {
      const linked = tree.get(member.linkName);
      if (linked !== undefined && linked.kind !== 'directory') return linked;
      throw new EifError(
        'bad-image',
        `${shown(member.name)} is a hard link to ${shown(member.linkName)}, which is not a file of the image`,
      );
    }
    default:
      return { kind: member.kind, mode, uid, gid };
  }
}
