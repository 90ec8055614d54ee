import type { DescField } from '@bufbuild/protobuf';
import { FeatureSet_FieldPresence } from '@bufbuild/protobuf/wkt';
import { PrpcError } from '../errors.ts';

/** Field numbers from here on are extensions of ours (docs/protocol/README.md section 3). */
export const EXTENSION_NUMBERS = 100;

/** How a field may be absent: `optional` and message fields take and give null. */
export function fieldPresence(field: DescField): 'repeated' | 'optional' | 'implicit' {
  if (field.fieldKind === 'list') return 'repeated';
  if (field.fieldKind === 'message') return 'optional';
  if (field.fieldKind === 'map' || field.fieldKind === 'enum' || field.oneof !== undefined) {
    throw new PrpcError('bad_json', `Field ${field.name}: prpc messages have no ${field.fieldKind} fields`);
  }
  return field.presence === FeatureSet_FieldPresence.EXPLICIT ? 'optional' : 'implicit';
}
