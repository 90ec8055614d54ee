import type { ImageLock } from '../lock/image-lock.ts';

/** A list of what an image consists of, in the form of CycloneDX 1.6. Without a time or serial number, so that it is reproducible. */
export function sbom(lock: ImageLock, image: { readonly name: string; readonly version: string }): string {
  const components = lock.image.map(({ name, version, sha256 }) => ({
    type: 'library',
    name,
    version,
    purl: `pkg:deb/debian/${name}@${encodeURIComponent(version)}?arch=amd64&distro=${lock.suite}`,
    hashes: [{ alg: 'SHA-256', content: sha256 }],
  }));
  const node = {
    type: 'platform',
    name: 'node',
    version: lock.node.version,
    purl: `pkg:npm/${lock.node.name}@${lock.node.version}`,
    hashes: [{ alg: 'SHA-512', content: sha512Hex(lock.node.integrity) }],
  };
  const document = {
    bomFormat: 'CycloneDX',
    specVersion: '1.6',
    version: 1,
    metadata: { component: { type: 'operating-system', name: image.name, version: image.version } },
    components: [node, ...components],
  };
  return `${JSON.stringify(document, null, 2)}\n`;
}

function sha512Hex(integrity: string): string {
  return Buffer.from(integrity.slice('sha512-'.length), 'base64').toString('hex');
}
