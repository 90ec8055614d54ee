import type { GcpSettings } from './gcp-settings.ts';

/** Label of everything that the command line makes; its value is always 1. */
export const MADE_BY: string = 'dstack-cloud';
/** Label that says which project made it. */
export const OWNER: string = 'dstack-owner';
/** Label of an instance: the image that its boot disk was made from. */
export const BOOT_IMAGE: string = 'dstack-boot-image';

/** Names of the disks inside an instance. */
export const DEVICE = { boot: 'boot', data: 'data', shared: 'shared' } as const;

/** Labels of what this project makes. */
export function ownLabels({ owner, labels }: Pick<GcpSettings, 'owner' | 'labels'>): Record<string, string> {
  return { ...labels, [MADE_BY]: '1', [OWNER]: owner };
}

/** A labelled resource, as Google shows it. */
export interface Labelled {
  readonly name: string;
  readonly labels?: Readonly<Record<string, string>> | undefined;
}

export function isOwn({ owner }: Pick<GcpSettings, 'owner'>, { labels }: Labelled): boolean {
  return labels?.[OWNER] === owner;
}

/** Target tag of an instance's firewall rules. */
export function firewallTag(instance: string): string {
  return `fw-${instance}`;
}

export function dataDiskName(instance: string): string {
  return `${instance}-data`;
}

/** The last part of a resource's URL. */
export function nameOf(url: string | undefined): string {
  return url?.split('/').at(-1) ?? '';
}
