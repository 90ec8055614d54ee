import { EC2Client } from '@aws-sdk/client-ec2';
import { IAMClient } from '@aws-sdk/client-iam';
import { S3Client } from '@aws-sdk/client-s3';
import { SSMClient } from '@aws-sdk/client-ssm';
import { GetCallerIdentityCommand, STSClient } from '@aws-sdk/client-sts';
import type { Context } from '../../../context.ts';
import type { Place } from '../../platform.ts';
import { explainAws } from './aws-error.ts';
import { type AwsSettings, awsSettings } from './aws-settings.ts';

/** The services of AWS in a region, with the credentials that AWS's own tools would use. */
export interface AwsSession {
  /** Number of the account. */
  readonly account: string;
  readonly ec2: EC2Client;
  readonly ssm: SSMClient;
  readonly s3: S3Client;
  readonly iam: IAMClient;
  /** Of every request. */
  readonly options: { readonly abortSignal: AbortSignal };
}

/** A project on AWS, with its settings and the services that it needs. */
export interface AwsPlace extends AwsSession {
  readonly place: Place;
  readonly settings: AwsSettings;
}

const TRIES = 5;
const CONNECT_MS = 10_000;
const SILENCE_MS = 120_000;

/** @throws CliError `bad_app_json`, `no_credentials`, `cloud_refused`, `cloud_unreachable` */
export async function openAws(place: Place): Promise<AwsPlace> {
  const settings = awsSettings(place);
  return { place, settings, ...(await openSession(place.context, settings.region)) };
}

/** @throws CliError `no_credentials`, `cloud_refused`, `cloud_unreachable` */
export async function openSession({ signal }: Context, region: string): Promise<AwsSession> {
  // That a later version of the library wants a later Node is nothing for users of this program.
  process.env['AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED'] ??= 'true';
  const requestHandler = { connectionTimeout: CONNECT_MS, socketTimeout: SILENCE_MS };
  const config = { region, maxAttempts: TRIES, requestHandler };
  const options = { abortSignal: signal };
  try {
    // Whose buckets are used: a name that somebody else took first is refused by it.
    const { Account: account = '' } = await new STSClient(config).send(
      new GetCallerIdentityCommand({}),
      options,
    );
    return {
      account,
      ec2: new EC2Client(config),
      ssm: new SSMClient(config),
      // Another address than AWS's own has no name for each bucket.
      s3: new S3Client({ ...config, forcePathStyle: hasOwnEndpoint() }),
      iam: new IAMClient(config),
      options,
    };
  } catch (error) {
    throw explainAws('AWS', error);
  }
}

function hasOwnEndpoint(): boolean {
  const { AWS_ENDPOINT_URL: all, AWS_ENDPOINT_URL_S3: s3 } = process.env;
  return Boolean(s3 || all);
}
