import { CliError } from '../../errors.ts';
import { explainGcp, GcpError, isConflict } from './api/gcp-error.ts';
import type { GcpPlace } from './gcp-place.ts';
import { ownLabels } from './resources.ts';

/** Makes the project's bucket unless it is there: private, in the zone's region. @throws CliError for another's */
export async function ensureBucket({ place, settings, storage }: GcpPlace): Promise<void> {
  const { bucket, project, region } = settings;
  try {
    if ((await storage.findBucket(bucket)) !== undefined) return;
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
    // All names share one world: somebody else's answers with 403, or with 409 when it is made.
    const isOthers = error instanceof GcpError && (error.status === 403 || isConflict(error));
    if (!isOthers) throw explainGcp(`Bucket ${bucket}`, error);
    throw new CliError(
      'not_owner',
      `The bucket gs://${bucket} belongs to somebody else, or this account may not use it`,
      {
        found: (error as Error).message,
        hint: 'Set another gcp_config.bucket, or grant this account the role storage.admin on it',
        cause: error,
      },
    );
  }
}
