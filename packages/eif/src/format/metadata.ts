import { utf8, utf8Text } from '@dstack-cloud/encoding';
import { z } from 'zod';
import { EifError } from '../errors.ts';

/** Most that is read of a metadata section; DockerInfo of real images has a few thousand bytes. */
const MAX_METADATA_BYTES: number = 1 << 20;
/** Most of a user's own metadata, as nitro-cli has it. */
export const MAX_CUSTOM_BYTES = 4096;

const schema = z.object({
  ImageName: z.string(),
  ImageVersion: z.string(),
  BuildMetadata: z.object({
    BuildTime: z.string(),
    BuildTool: z.string(),
    BuildToolVersion: z.string(),
    OperatingSystem: z.string(),
    KernelVersion: z.string(),
  }),
  DockerInfo: z.unknown(),
  CustomMetadata: z.unknown(),
});

/** What the image says of itself; it is not measured, so anybody may have written it. */
export interface EifMetadata {
  readonly ImageName: string;
  readonly ImageVersion: string;
  readonly BuildMetadata: {
    readonly BuildTime: string;
    readonly BuildTool: string;
    readonly BuildToolVersion: string;
    readonly OperatingSystem: string;
    readonly KernelVersion: string;
  };
  readonly DockerInfo?: unknown;
  readonly CustomMetadata?: unknown;
}

/** @throws EifError `malformed`, `too-large` */
export function parseMetadata(bytes: Uint8Array): EifMetadata {
  requireMetadataSize(bytes.length);
  let value: unknown;
  try {
    value = JSON.parse(utf8Text(bytes));
  } catch (cause) {
    throw new EifError('malformed', 'The metadata section is not JSON', { cause });
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new EifError('malformed', 'The metadata section is not in the known form', {
    expected: 'ImageName, ImageVersion, BuildMetadata, DockerInfo, CustomMetadata',
    found: `${issue?.path.join('.') || 'the whole'}: ${issue?.message}`,
  });
}

/** Members in the order of nitro-cli, without blanks. */
export function encodeMetadata(metadata: EifMetadata): Uint8Array {
  const { BuildMetadata: build } = metadata;
  const bytes = utf8(
    JSON.stringify({
      ImageName: metadata.ImageName,
      ImageVersion: metadata.ImageVersion,
      BuildMetadata: {
        BuildTime: build.BuildTime,
        BuildTool: build.BuildTool,
        BuildToolVersion: build.BuildToolVersion,
        OperatingSystem: build.OperatingSystem,
        KernelVersion: build.KernelVersion,
      },
      DockerInfo: metadata.DockerInfo ?? null,
      CustomMetadata: metadata.CustomMetadata ?? null,
    }),
  );
  requireMetadataSize(bytes.length);
  return bytes;
}

export function requireMetadataSize(size: number): void {
  if (size > MAX_METADATA_BYTES)
    throw new EifError('too-large', 'The metadata section is too long', {
      expected: `at most ${MAX_METADATA_BYTES} bytes`,
      found: `${size} bytes`,
    });
}
