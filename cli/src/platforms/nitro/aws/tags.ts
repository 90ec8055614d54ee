import type { AwsSettings } from './aws-settings.ts';

/** Tag of everything that the command line makes. */
export const MADE_BY = { Key: 'dstack:managed-by', Value: 'dstack-cloud' } as const;
/** Tag that says which project made it. */
export const OWNER: string = 'dstack:owner';
/** Tag of a parent instance: the app of its enclave. */
export const APP_ID: string = 'dstack:app-id';

/** A tag as AWS's services show it. */
export interface Tag {
  readonly Key?: string | undefined;
  readonly Value?: string | undefined;
}

/** Tags of what this project makes. */
export function ownTags({
  owner,
  instance,
}: Pick<AwsSettings, 'owner' | 'instance'>): { Key: string; Value: string }[] {
  return [{ Key: 'Name', Value: instance }, { ...MADE_BY }, { Key: OWNER, Value: owner }];
}

export function tagOf(tags: readonly Tag[] | undefined, key: string): string | undefined {
  return tags?.find(({ Key }) => Key === key)?.Value;
}

export function isOwn({ owner }: Pick<AwsSettings, 'owner'>, tags: readonly Tag[] | undefined): boolean {
  return tagOf(tags, OWNER) === owner;
}
