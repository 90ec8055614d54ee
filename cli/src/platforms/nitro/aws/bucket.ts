import { createReadStream } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type BucketLocationConstraint,
  CreateBucketCommand,
  DeleteBucketCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  HeadBucketCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  PutPublicAccessBlockCommand,
} from '@aws-sdk/client-s3';
import { fromHex } from '@dstack-cloud/encoding';
import { CliError } from '../../../errors.ts';
import { codeOf, explainAws, hasCode, unless } from './aws-error.ts';
import type { AwsPlace } from './aws-place.ts';
import type { AwsSettings } from './aws-settings.ts';

/** A command on the host that waits for its packages fetches the image some minutes later. */
const LINK_SECONDS = 3600;
/** Largest object of one request. */
const MAX_OBJECT = 5 * 2 ** 30;
const TRIES = 4;
const MAX_PAGES = 1000;
const ABSENT = ['NotFound', 'NoSuchBucket', 'NoSuchKey'];

/** What the host fetches, named by its content. */
export interface HostFile {
  readonly name: string;
  readonly size: number;
  /** Hex. */
  readonly sha256: string;
  /** Its bytes: a file, or what is in memory. */
  readonly content: string | Uint8Array;
}

/** The bucket of enclave images is there for this account, or can be made. @throws CliError */
export async function requireBucket(aws: AwsPlace): Promise<boolean> {
  const { s3, options, settings, account } = aws;
  const { bucket, ownsBucket } = settings;
  try {
    const command = new HeadBucketCommand({ Bucket: bucket, ExpectedBucketOwner: account });
    if ((await unless(ABSENT, s3.send(command, options))) !== undefined) return true;
  } catch (error) {
    throw explainBucket(settings, error);
  }
  if (ownsBucket) return false;
  throw new CliError('file_missing', `There is no bucket ${bucket} in region ${settings.region}`, {
    hint: 'Correct nitro_config.bucket, or leave it empty, so that deploy makes a bucket',
  });
}

/** Makes the project's own bucket unless it is there; nobody else reads it. */
export async function ensureBucket(aws: AwsPlace): Promise<void> {
  const { s3, options, settings, account, place } = aws;
  const { bucket, region, ownsBucket } = settings;
  const isThere = await requireBucket(aws);
  if (!ownsBucket) return;
  const location = { LocationConstraint: region as BucketLocationConstraint };
  try {
    if (!isThere) {
      const command = new CreateBucketCommand({
        Bucket: bucket,
        // The oldest region has no name there.
        ...(region === 'us-east-1' ? {} : { CreateBucketConfiguration: location }),
      });
      await unless(['BucketAlreadyOwnedByYou'], s3.send(command, options));
      place.context.info(`Made bucket s3://${bucket}`);
    }
    await s3.send(
      new PutPublicAccessBlockCommand({
        Bucket: bucket,
        ExpectedBucketOwner: account,
        PublicAccessBlockConfiguration: {
          ...{ BlockPublicAcls: true, IgnorePublicAcls: true },
          ...{ BlockPublicPolicy: true, RestrictPublicBuckets: true },
        },
      }),
      options,
    );
  } catch (error) {
    throw explainBucket(settings, error);
  }
}

/** Uploads a file unless one of its content is there; S3 compares the hash. @returns a link for one hour */
export async function provide(aws: AwsPlace, file: HostFile): Promise<string> {
  const { s3, settings } = aws;
  const key = keyOf(settings, file);
  if (file.size > MAX_OBJECT)
    throw new CliError('refused', `${file.name} is too large for S3`, {
      expected: `at most ${MAX_OBJECT} bytes`,
      found: `${file.size} bytes`,
    });
  try {
    if (!(await isUploaded(aws, file, key))) await upload(aws, file, key);
    const { getSignedUrl } = await import('@aws-sdk/s3-request-presigner');
    return await getSignedUrl(s3, new GetObjectCommand({ Bucket: settings.bucket, Key: key }), {
      expiresIn: LINK_SECONDS,
    });
  } catch (error) {
    throw explainBucket(settings, error);
  }
}

async function isUploaded(
  { s3, options, settings, account }: AwsPlace,
  file: HostFile,
  key: string,
): Promise<boolean> {
  const command = new HeadObjectCommand({ Bucket: settings.bucket, Key: key, ExpectedBucketOwner: account });
  const known = await unless(ABSENT, s3.send(command, options));
  return known?.ContentLength === file.size;
}

async function upload(aws: AwsPlace, file: HostFile, key: string): Promise<void> {
  const { s3, options, settings, account, place } = aws;
  const { context } = place;
  context.info(`Uploading ${file.name} (${(file.size / 1e6).toFixed(0)} MB)`);
  for (let count = 1; ; count += 1) {
    const { content } = file;
    const body = typeof content === 'string' ? createReadStream(content) : content;
    try {
      await s3.send(
        new PutObjectCommand({
          ...{ Bucket: settings.bucket, Key: key, ExpectedBucketOwner: account },
          ...{ Body: body, ContentLength: file.size },
          ChecksumSHA256: Buffer.from(fromHex(file.sha256)).toString('base64'),
        }),
        options,
      );
      return;
    } catch (error) {
      const refusal = codeOf(error);
      const isFinal =
        refusal !== undefined && !/Timeout|SlowDown|InternalError|ServiceUnavailable/.test(refusal);
      if (isFinal || count >= TRIES || context.signal.aborted) throw error;
      // A stream was read, so the library cannot send it a second time.
      context.debug(`Upload of ${file.name}: ${String(error)}; trying again`);
      await sleep(1000 * count, undefined, { signal: context.signal });
    } finally {
      if (!(body instanceof Uint8Array)) body.destroy();
    }
  }
}

/** Removes what this project uploaded, but for the files that are named. */
export async function sweepObjects(aws: AwsPlace, keep: readonly HostFile[]): Promise<void> {
  const { s3, options, settings, account } = aws;
  const kept = new Set(keep.map((file) => keyOf(settings, file)));
  const where = { Bucket: settings.bucket, ExpectedBucketOwner: account };
  let token: string | undefined;
  for (let page = 0; page < MAX_PAGES; page += 1) {
    const command = new ListObjectsV2Command({
      ...where,
      Prefix: prefixOf(settings),
      ContinuationToken: token,
    });
    const answer = await unless(ABSENT, s3.send(command, options));
    for (const { Key } of answer?.Contents ?? [])
      if (Key !== undefined && !kept.has(Key))
        await s3.send(new DeleteObjectCommand({ ...where, Key }), options);
    token = answer?.NextContinuationToken;
    if (token === undefined) return;
  }
}

/** Removes the project's own bucket, empty by then. */
export async function removeBucket({ s3, options, settings, account, place }: AwsPlace): Promise<void> {
  const { bucket, ownsBucket } = settings;
  if (!ownsBucket) return;
  const command = new DeleteBucketCommand({ Bucket: bucket, ExpectedBucketOwner: account });
  try {
    await unless(ABSENT, s3.send(command, options));
  } catch (error) {
    if (!hasCode(error, 'BucketNotEmpty')) throw error;
    place.context.info(`Kept bucket s3://${bucket}: it has objects that this program did not put there`);
  }
}

function prefixOf({ owner }: AwsSettings): string {
  return `dstack/${owner}/`;
}

function keyOf(settings: AwsSettings, { name, sha256 }: HostFile): string {
  return `${prefixOf(settings)}${sha256}/${name}`;
}

/** All names share one world: somebody else's answers with 403, or with 409 when it is made. */
function explainBucket({ bucket, nitro }: AwsSettings, error: unknown): Error {
  const { $metadata } = error as { $metadata?: { httpStatusCode?: number } };
  if (![301, 403, 409].includes($metadata?.httpStatusCode ?? 0)) return explainAws(`Bucket ${bucket}`, error);
  const member =
    nitro.bucket === '' ? 'Set nitro_config.bucket to a bucket of yours' : 'Set another nitro_config.bucket';
  return new CliError(
    'not_owner',
    `The bucket s3://${bucket} is of another account or region, or this identity may not use it`,
    {
      found: codeOf(error) ?? 'refused',
      hint: `${member}, or give this identity access to it`,
      cause: error,
    },
  );
}
