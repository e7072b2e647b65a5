/**
 * Quantile of ascending values, linear between order statistics (numpy's default, type 7 of Hyndman &
 * Fan 1996).
 *
 * @param level in [0, 1]; 0 = least, 1 = greatest
 * @param count pretend that so many values were given, the missing ones being 0 at the upper end
 * @throws {RangeError} for no values
 */
export function quantileOf(
  ascending: readonly number[],
  level: number,
  count: number = ascending.length,
): number {
  if (count === 0) throw new RangeError("There is no quantile of no values");
  const at = level * (count - 1);
  const low = Math.floor(at);
  const value = (index: number) => index < ascending.length ? ascending[index]! : 0;
  const share = at - low;
  return share === 0 ? value(low) : value(low) * (1 - share) + value(low + 1) * share;
}
