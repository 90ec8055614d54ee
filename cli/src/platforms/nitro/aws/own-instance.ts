import {
  DescribeInstancesCommand,
  type Filter,
  type Instance,
  paginateDescribeInstances,
} from '@aws-sdk/client-ec2';
import { CliError } from '../../../errors.ts';
import { explainAws, unless } from './aws-error.ts';
import type { AwsPlace, AwsSession } from './aws-place.ts';
import { isOwn, OWNER } from './tags.ts';

/** States of an instance that is there, or will be. */
const THERE = ['pending', 'running', 'stopping', 'stopped'];
const MAX_INSTANCES = 10_000;

/** The project's parent instance. @throws CliError `refused` when there are several: which one is meant? */
export async function findInstance(aws: AwsPlace): Promise<Instance | undefined> {
  const { settings } = aws;
  const found = await instancesWith(aws, { Name: `tag:${OWNER}`, Values: [settings.owner] });
  const [first, ...others] = found.filter(({ Tags }) => isOwn(settings, Tags));
  if (others.length === 0) return first;
  throw new CliError('refused', `${found.length} instances have the mark of this project`, {
    expected: 'one instance',
    found: found.map(({ InstanceId }) => InstanceId).join(', '),
    hint: 'Terminate all but one of them in the console; a copied project needs an instance_id_seed of its own',
  });
}

/** Instances that are there with a tag, in the region. */
export async function instancesWith({ ec2, options }: AwsSession, filter: Filter): Promise<Instance[]> {
  const Filters = [filter, { Name: 'instance-state-name', Values: THERE }];
  const found: Instance[] = [];
  try {
    for await (const { Reservations = [] } of paginateDescribeInstances(
      { client: ec2 },
      { Filters },
      options,
    )) {
      found.push(...Reservations.flatMap(({ Instances = [] }) => Instances));
      if (found.length > MAX_INSTANCES) break;
    }
  } catch (error) {
    throw explainAws('Instances', error);
  }
  return found;
}

/** State of an instance by its id; undefined when AWS does not know it (yet, or any more). */
export async function instanceById({ ec2, options }: AwsSession, id: string): Promise<Instance | undefined> {
  const asked = ec2.send(new DescribeInstancesCommand({ InstanceIds: [id] }), options);
  const answer = await unless(['InvalidInstanceID.NotFound'], asked);
  return answer?.Reservations?.[0]?.Instances?.[0];
}
