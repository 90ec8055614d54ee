import type { ImageLock, LockedPackage } from '../lock/image-lock.ts';
import type { NpmPackage } from './program-packages.ts';

/** What an image consists of. */
export interface Materials {
  readonly component: {
    readonly type: 'operating-system' | 'container';
    readonly name: string;
    readonly version: string;
  };
  readonly lock: Pick<ImageLock, 'suite' | 'node'>;
  readonly debian: readonly LockedPackage[];
  /** Packages that our programs were bundled from. */
  readonly npm: readonly NpmPackage[];
  /** Bytes of each Debian package and of `node` that are in the image. */
  readonly sizes: ReadonlyMap<string, number>;
  /** Where such images were booted, and how far. */
  readonly triedOn?: readonly { readonly where: string; readonly what: string }[];
}

/** Name of the property that says how many bytes of a component are in the image. */
const SIZE_PROPERTY = 'dstack:size';
/** Name of the properties that say where an image was booted, and how far. */
const TRIED_PROPERTY = 'dstack:tried-on';

/**
 * A list of what an image consists of, in the form of CycloneDX 1.6. Without a time or serial number, so that it is
 * reproducible.
 */
export function billOfMaterials(materials: Materials): string {
  const { component, lock, debian, npm, sizes, triedOn = [] } = materials;
  const tried = triedOn.map(({ where, what }) => ({ name: TRIED_PROPERTY, value: `${where}: ${what}` }));
  const size = (name: string) => {
    const bytes = sizes.get(name);
    return bytes === undefined ? {} : { properties: [{ name: SIZE_PROPERTY, value: String(bytes) }] };
  };
  const node = {
    type: 'platform',
    ...npmComponent({ ...lock.node, license: 'MIT' }),
    name: NODE_COMPONENT,
    ...size(NODE_COMPONENT),
  };
  const packages = debian.map(({ name, version, sha256 }) => {
    const purl = `pkg:deb/debian/${encodeURIComponent(name)}@${encodeURIComponent(version)}?arch=amd64&distro=${lock.suite}`;
    const hashes = [{ alg: 'SHA-256', content: sha256 }];
    return { type: 'library', 'bom-ref': purl, name, version, hashes, purl, ...size(name) };
  });
  const bundled = npm.map((one) => ({ type: 'library', ...npmComponent(one) }));
  const document = {
    bomFormat: 'CycloneDX',
    specVersion: '1.6',
    version: 1,
    metadata: {
      component: {
        ...component,
        'bom-ref': 'image',
        ...(tried.length === 0 ? {} : { properties: tried }),
      },
    },
    components: [node, ...packages, ...bundled],
  };
  return `${JSON.stringify(document, null, 2)}\n`;
}

/** Name of the JavaScript engine among the components. */
export const NODE_COMPONENT = 'node';

function npmComponent({ name, version, license, integrity }: NpmPackage): object {
  const purl = `pkg:npm/${name.replace('@', '%40')}@${version}`;
  const content = Buffer.from(integrity.slice('sha512-'.length), 'base64').toString('hex');
  const licenses = license === undefined ? {} : { licenses: [{ expression: license }] };
  return { 'bom-ref': purl, name, version, hashes: [{ alg: 'SHA-512', content }], ...licenses, purl };
}
