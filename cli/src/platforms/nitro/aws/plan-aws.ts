import type { NitroConfig } from '../../../project/nitro-config.ts';
import type { Prepared } from '../../../project/shared-files.ts';
import type { CheckOptions, Place, PlannedChange } from '../../platform.ts';
import { openAws } from './aws-place.ts';
import { requireBucket } from './bucket.ts';
import { findSecurityGroup } from './network.ts';
import { findInstance } from './own-instance.ts';

/** What a deploy would make, change and delete on AWS. */
export async function planAws(
  place: Place,
  _prepared: Prepared,
  { recreate }: CheckOptions,
): Promise<PlannedChange[]> {
  const aws = await openAws(place);
  const { settings } = aws;
  const { nitro } = settings;
  const live = await findInstance(aws);
  const isThere = (there: boolean): 'keep' | 'make' => (there ? 'keep' : 'make');
  const launches = live === undefined || recreate === true;
  const group = (await findSecurityGroup(aws)) !== undefined;
  return [
    { action: isThere(await requireBucket(aws)), what: `bucket s3://${settings.bucket}` },
    { action: isThere(group), what: `security group of ${settings.instance}`, note: letsIn(nitro) },
    ...(nitro.instance_profile === '' && nitro.access === 'ssm' && launches
      ? [
          {
            action: 'make' as const,
            what: `role and instance profile of ${settings.instance}`,
            note: 'unless they are there',
          },
        ]
      : []),
    ...(live !== undefined && launches
      ? [{ action: 'delete' as const, what: `instance ${live.InstanceId}` }]
      : []),
    launches
      ? {
          action: 'make',
          what: `instance ${settings.instance} (${nitro.instance_type} in ${settings.region})`,
        }
      : { action: 'keep', what: `instance ${settings.instance} (${live?.InstanceId})` },
    {
      action: launches ? 'make' : 'change',
      what: 'its enclave',
      ...(launches ? {} : { note: 'restarts with the new image' }),
    },
  ];
}

function letsIn({ access, ssh_port, ssh_sources }: NitroConfig): string {
  if (access === 'ssm' || ssh_sources.length === 0) return 'lets nothing in';
  return `lets ${ssh_sources.join(', ')} in to port ${ssh_port}`;
}
