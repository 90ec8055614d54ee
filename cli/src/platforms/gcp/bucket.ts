import { CliError } from '../../errors.ts';
import { explainGcp, GcpError, isConflict } from './api/gcp-error.ts';
import type { GcpPlace } from './gcp-place.ts';
import { ownLabels } from './resources.ts';

/** Makes the project's bucket unless it is there: private, in the zone's region. @throws CliError for another's */
export async function ensureBucket(gcp: GcpPlace): Promise<void> {
  const { place, settings, storage } = gcp;
  const { bucket, project, region } = settings;
  if (await hasBucket(gcp)) return;
  try {
    await storage.makeBucket(project, {
      name: bucket,
      location: region.toUpperCase(),
      iamConfiguration: {
        uniformBucketLevelAccess: { enabled: true },
        publicAccessPrevention: 'enforced',
      },
      labels: ownLabels(settings),
    });
    place.context.info(`Made bucket gs://${bucket}`);
  } catch (error) {
    throw explainBucket(bucket, error);
  }
}

/** Whether the bucket is there for this account. @throws CliError for another's */
export async function hasBucket({ settings, storage }: GcpPlace): Promise<boolean> {
  try {
    return (await storage.findBucket(settings.bucket)) !== undefined;
  } catch (error) {
    throw explainBucket(settings.bucket, error);
  }
}

/** All names share one world: somebody else's answers with 403, or with 409 when it is made. */
function explainBucket(bucket: string, error: unknown): Error {
  const isOthers = error instanceof GcpError && (error.status === 403 || isConflict(error));
  if (!isOthers) return explainGcp(`Bucket ${bucket}`, error);
  return new CliError(
    'not_owner',
    `The bucket gs://${bucket} belongs to somebody else, or this account may not use it`,
    {
      found: error.message,
      hint: 'Set another gcp_config.bucket, or grant this account the role storage.admin on it',
      cause: error,
    },
  );
}
