# ruff: noqa: E501 - a row of a table is a line
"""Rows of the benchmark of ops: our expression, and the bare one of each framework.

A row reads `ours (and Keras's) | torch | jax.numpy | tensorflow | numpy`. An empty cell stands for
the same expression in the framework's own namespace `f`, and `-` for no call of its own. Where it
takes two calls to give Keras's result, such as int32 from argmax, the bare expression is both.

`a`, `b` are float matrices, `c` has an axis of 1 in front, `d` is a row, `v` a vector, `m` a mask,
`n`, `k` are integer matrices, `i` is a vector of indices, `z` a complex matrix.
"""

COMMON = """
f.add(a, b) | | | |
f.subtract(a, b) | | | |
f.multiply(a, b) | | | |
f.divide(a, b) | | | |
f.add(a, 1.0) | | | |
f.maximum(a, b) | | | |
f.power(a, b) | f.pow(a, b) | | f.pow(a, b) |
f.exp(a) | | | |
f.sqrt(a) | | | |
f.tanh(a) | | | |
f.sin(a) | | | |
f.abs(a) | | | |
f.square(a) | | | |
f.negative(a) | | | |
f.floor(a) | | | |
f.log1p(a) | | | f.math.log1p(a) |
f.relu(a) | | nn.relu(a) | f.nn.relu(a) | f.maximum(a, 0)
f.sigmoid(a) | | nn.sigmoid(a) | f.sigmoid(a) | f.where(a >= 0, 1 / (1 + (e := f.exp(-f.abs(a)))), e / (1 + e))
f.softmax(a) | f.softmax(a, -1) | nn.softmax(a) | f.nn.softmax(a) | (e := f.exp(a - f.max(a, -1, keepdims=True))) / f.sum(e, -1, keepdims=True)
f.silu(a) | F.silu(a) | nn.silu(a) | f.nn.silu(a) | a * f.where(a >= 0, 1 / (1 + (e := f.exp(-f.abs(a)))), e / (1 + e))
f.sum(a, axis=-1) | f.sum(a, dim=-1) | | f.reduce_sum(a, axis=-1) |
f.mean(a, axis=-1) | f.mean(a, dim=-1) | | f.reduce_mean(a, axis=-1) |
f.max(a, axis=-1) | f.amax(a, dim=-1) | | f.reduce_max(a, axis=-1) |
f.argmax(a, axis=-1) | f.argmax(a, dim=-1).int() | f.argmax(a, axis=-1) | f.argmax(a, axis=-1, output_type="int32") | f.argmax(a, axis=-1).astype("int32")
f.cumsum(a, axis=0) | f.cumsum(a, dim=0) | | f.cumsum(a, axis=0) |
f.matmul(a, b) | | | |
f.dot(a, b) | f.matmul(a, b) | | f.matmul(a, b) |
f.einsum("ij,jk->ik", a, b) | | | |
f.reshape(a, (4, 16)) | | | |
f.transpose(a, (1, 0)) | f.permute(a, (1, 0)) | | f.transpose(a, (1, 0)) |
f.expand_dims(a, 0) | f.unsqueeze(a, 0) | | |
f.squeeze(c, 0) | | | f.squeeze(c, 0) |
f.concatenate([a, b], axis=0) | f.cat([a, b], dim=0) | | f.concat([a, b], axis=0) |
f.stack([a, b], axis=0) | f.stack([a, b], dim=0) | | |
f.where(m, a, b) | | | |
f.greater(a, b) | | | |
f.equal(a, b) | f.eq(a, b) | | |
f.logical_and(m, m) | | | |
f.broadcast_to(d, (8, 8)) | | | |
f.clip(a, -1.0, 1.0) | f.clamp(a, -1.0, 1.0) | | f.clip_by_value(a, -1.0, 1.0) |
f.zeros_like(a) | | | |
f.cast(a, "int32") | a.to(f.int32) | a.astype("int32") | f.cast(a, "int32") | a.astype("int32")
"""

# The rest of the ops, and the same ones with numbers, lists, tuples and keywords.
MORE = """
f.add(n, 1) | | | |
f.add(1.0, a) | | f.add(1.0, a) | |
f.add(a, n) | | | f.add(a, f.cast(n, "float32")) | f.add(a, n.astype("float32"))
f.add(x1=a, x2=b) | f.add(input=a, other=b) | f.add(a, b) | f.add(a, b) | f.add(a, b)
f.subtract(1.0, a) | | | |
f.multiply(a, 2) | | | f.multiply(a, 2) |
f.multiply(a, 2.0) | | | |
f.divide(n, 2) | | | f.divide(f.cast(n, "float32"), 2.0) | f.divide(n, 2).astype("float32")
f.divide(a, 2.0) | | | |
f.true_divide(a, b) | | | f.truediv(a, b) |
f.floor_divide(n, 3) | | | f.math.floordiv(n, 3) |
f.floor_divide(n, k) | | | f.math.floordiv(n, k) |
f.mod(n, 3) | f.remainder(n, 3) | | f.math.floormod(n, 3) |
f.mod(a, b) | f.remainder(a, b) | | f.math.floormod(a, b) |
f.power(a, 2.0) | f.pow(a, 2.0) | | f.pow(a, 2.0) |
f.power(n, 2) | f.pow(n, 2) | | f.pow(n, 2) |
f.maximum(a, 0.0) | f.maximum(a, f.full((), 0.0)) | | |
f.minimum(a, b) | | | |
f.minimum(n, 3) | f.minimum(n, f.full((), 3, dtype=f.int32)) | | |
f.clip(n, 0, 5) | f.clamp(n, 0, 5) | | f.clip_by_value(n, 0, 5) |
f.clip(a, x_min=0.0, x_max=1.0) | f.clamp(a, 0.0, 1.0) | f.clip(a, 0.0, 1.0) | f.clip_by_value(a, 0.0, 1.0) | f.clip(a, 0.0, 1.0)
f.clip(a, d, b) | f.clamp(a, d, b) | | f.clip_by_value(a, d, b) |
f.gcd(n, k) | | | - |
f.cbrt(a) | f.sign(a) * f.abs(a) ** (1 / 3) | | f.sign(a) * f.abs(a) ** (1 / 3) |
f.reciprocal(a) | | | f.math.reciprocal(a) |
f.absolute(a) | | | f.abs(a) |
f.sign(a) | f.where(f.isnan(a), a, f.sign(a)) | | |
f.fabs(a) | f.abs(a) | | f.abs(a) |
f.equal(n, 3) | f.eq(n, 3) | | |
f.not_equal(a, 0.0) | f.ne(a, 0.0) | | |
f.less(a, 1.0) | | | |
f.less_equal(a, b) | | | |
f.greater_equal(a, 1.0) | f.ge(a, 1.0) | | |
f.logical_or(m, m) | | | |
f.logical_xor(m, m) | | | f.math.logical_xor(m, m) |
f.logical_not(m) | | | |
f.bitwise_and(n, k) | | | f.bitwise.bitwise_and(n, k) |
f.bitwise_or(n, 3) | | | f.bitwise.bitwise_or(n, 3) |
f.bitwise_xor(n, k) | | | f.bitwise.bitwise_xor(n, k) |
f.bitwise_not(n) | | | f.bitwise.invert(n) |
f.left_shift(n, 2) | f.bitwise_left_shift(n, 2) | | f.bitwise.left_shift(n, 2) |
f.bitwise_right_shift(n, k) | | f.right_shift(n, k) | f.bitwise.right_shift(n, k) |
f.where(m, a, 0.0) | | | |
f.where(m, 1.0, a) | | | |
f.where(m, n, 0) | | | |
f.where(m, 1.0, 0.0) | f.where(m, 1.0, 0.0) | | | f.where(m, 1.0, 0.0).astype("float32")
f.where(m) | f.where(m) | | f.where(m) |
f.exp2(a) | | | f.pow(2.0, a) |
f.expm1(a) | | | f.math.expm1(a) |
f.log(a) | | | f.math.log(a) |
f.log2(a) | | | f.math.log(a) / 0.6931472 |
f.log10(a) | | | f.math.log(a) / 2.3025851 |
f.cos(a) | | | |
f.arcsin(a) | | | f.asin(a) |
f.arctan2(a, b) | | | f.math.atan2(a, b) |
f.sinh(a) | | | |
f.arctanh(a) | | | f.atanh(a) |
f.sinc(a) | | | - |
f.i0(a) | | | f.math.bessel_i0(a) |
f.deg2rad(a) | | | a * 0.017453292 |
f.fmax(a, b) | | | - |
f.fmin(a, b) | | | - |
f.lcm(n, k) | | | - |
f.hypot(a, b) | | | - |
f.heaviside(a, b) | f.where(f.isnan(a), a, f.heaviside(a, b)) | | - |
f.logaddexp(a, b) | | | - |
f.logaddexp2(a, b) | | | - |
f.ceil(a) | | | f.math.ceil(a) |
f.trunc(a) | | | - |
f.round(a) | | | |
f.round(a, 2) | f.round(a, decimals=2) | | - |
f.isnan(a) | | | f.math.is_nan(a) |
f.isinf(a) | | | f.math.is_inf(a) |
f.isfinite(a) | | | f.math.is_finite(a) |
f.isposinf(a) | | | - |
f.isneginf(a) | | | - |
f.signbit(a) | | | - |
f.nan_to_num(a) | f.nan_to_num(a, 0.0) | | - |
f.real(a) | | | f.math.real(a) |
f.conj(z) | f.conj(z).resolve_conj() | | f.math.conj(z) |
f.angle(z) | | | f.math.angle(z) |
f.isreal(a) | | | - |
f.nonzero(a) | f.nonzero(a, as_tuple=True) | | f.where(a != 0) |
f.take(a, i, axis=0) | f.index_select(a, 0, i) | | f.gather(a, i, axis=0) | f.take(a, i, 0)
f.take(a, [0, 2], axis=1) | f.index_select(a, 1, f.tensor([0, 2])) | f.take(a, f.array([0, 2]), axis=1) | f.gather(a, [0, 2], axis=1) |
f.take(a, 1, axis=0) | f.select(a, 0, 1) | | f.gather(a, 1, axis=0) |
f.take_along_axis(a, n, axis=1) | f.take_along_dim(a, n.long(), 1) | | f.gather(a, n, axis=1, batch_dims=1) |
f.sort(a) | f.sort(a)[0] | | |
f.sort(a, axis=0) | f.sort(a, 0)[0] | | f.sort(a, axis=0) |
f.argsort(a) | f.argsort(a, stable=True).int() | | f.argsort(a, stable=True) | f.argsort(a, stable=True).astype("int32")
f.reshape(a, [-1]) | | | |
f.reshape(a, -1) | f.reshape(a, (-1,)) | | f.reshape(a, [-1]) |
f.ravel(a) | | | f.reshape(a, [-1]) |
f.transpose(a) | f.permute(a, (1, 0)) | | |
f.moveaxis(c, 0, -1) | | | f.transpose(c, (1, 2, 0)) |
f.swapaxes(c, 1, 2) | | | f.transpose(c, (0, 2, 1)) |
f.expand_dims(a, (0, 1)) | a.unsqueeze(0).unsqueeze(0) | | f.expand_dims(f.expand_dims(a, 0), 0) |
f.expand_dims(a, axis=-1) | f.unsqueeze(a, -1) | | f.expand_dims(a, -1) |
f.squeeze(c) | | | |
f.squeeze(c, axis=(0,)) | f.squeeze(c, (0,)) | | f.squeeze(c, [0]) | f.squeeze(c, (0,))
f.broadcast_to(v, [8, 8]) | | | |
f.concatenate((a, b), axis=-1) | f.cat((a, b), -1) | | f.concat((a, b), -1) | f.concatenate((a, b), -1)
f.concatenate([a, a, b, b]) | f.cat([a, a, b, b]) | | f.concat([a, a, b, b], 0) |
f.concatenate([a, n]) | f.cat([a, n]) | | f.concat([a, f.cast(n, "float32")], 0) | f.concatenate([a, n.astype("float32")])
f.append(a, b, axis=0) | f.cat([a, b], 0) | | f.concat([a, b], 0) |
f.hstack([a, b]) | | | f.concat([a, b], 1) |
f.vstack([a, b]) | | | f.concat([a, b], 0) |
f.dstack([a, b]) | | | f.stack([a, b], 2) |
f.stack([v, v], axis=1) | f.stack([v, v], 1) | | |
f.split(a, 2) | f.tensor_split(a, 2) | | |
f.split(a, [2, 5], axis=1) | f.tensor_split(a, [2, 5], 1) | f.split(a, [2, 5], axis=1) | f.split(a, [2, 3, 3], axis=1) |
f.array_split(a, 3) | f.tensor_split(a, 3) | | f.split(a, [3, 3, 2]) |
f.unstack(a) | f.unbind(a) | [a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]] | | [*a]
f.repeat(a, 2, axis=1) | f.repeat_interleave(a, 2, 1) | | f.repeat(a, 2, axis=1) | f.repeat(a, 2, 1)
f.repeat(v, 2) | f.repeat_interleave(v, 2) | | f.repeat(v, 2) |
f.tile(a, (2, 1)) | | | |
f.tile(v, 3) | f.tile(v, (3,)) | | f.tile(v, [3]) |
f.flip(a) | f.flip(a, (0, 1)) | | f.reverse(a, [0, 1]) |
f.flip(a, axis=1) | f.flip(a, (1,)) | | f.reverse(a, [1]) | f.flip(a, 1)
f.roll(a, 1, axis=0) | f.roll(a, 1, 0) | | f.roll(a, 1, 0) |
f.rot90(a) | | | - |
f.pad(a, [[1, 1], [0, 2]]) | F.pad(a, (0, 2, 1, 1)) | | f.pad(a, [[1, 1], [0, 2]]) |
f.pad(a, 1) | F.pad(a, (1, 1, 1, 1)) | | f.pad(a, [[1, 1], [1, 1]]) |
f.meshgrid(v, v) | f.meshgrid(v, v, indexing="xy") | | |
f.zeros((4, 8)) | | | | f.zeros((4, 8), "float32")
f.zeros([4, 8], dtype="int32") | f.zeros([4, 8], dtype=f.int32) | f.zeros((4, 8), dtype="int32") | f.zeros([4, 8], "int32") | f.zeros([4, 8], "int32")
f.ones((4, 8)) | | | | f.ones((4, 8), "float32")
f.full((4, 8), 2.0) | | | f.fill((4, 8), 2.0) | f.full((4, 8), 2.0, "float32")
f.full((4, 8), 2, "int32") | f.full((4, 8), 2, dtype=f.int32) | f.full((4, 8), 2, dtype="int32") | f.fill((4, 8), 2) |
f.ones_like(a) | | | |
f.full_like(a, 2.0) | | | f.fill(a.shape, 2.0) |
f.arange(8) | f.arange(8, dtype=f.int32) | | f.range(8) | f.arange(8, dtype="int32")
f.arange(0.0, 1.0, 0.25) | | | f.range(0.0, 1.0, 0.25) | f.arange(0.0, 1.0, 0.25, dtype="float32")
f.linspace(0.0, 1.0, 5) | f.lerp(f.tensor(0.0), f.tensor(1.0), (f.arange(5) / 4)) | | f.linspace(0.0, 1.0, 5) | f.linspace(0.0, 1.0, 5, dtype="float32")
f.eye(4) | | | f.eye(4) | f.eye(4, dtype="float32")
f.eye(4, 6, 1) | - | f.eye(4, 6, 1) | - | f.eye(4, 6, 1, "float32")
f.identity(4) | f.eye(4) | | f.eye(4) | f.identity(4, "float32")
f.tri(4) | f.tril(f.ones(4, 4)) | | - | f.tri(4, dtype="float32")
f.copy(a) | f.clone(a) | | f.identity(a) |
f.array([1.0, 2.0]) | f.tensor([1.0, 2.0]) | | f.constant([1.0, 2.0]) | f.array([1.0, 2.0], "float32")
f.array(1.0) | f.tensor(1.0) | | f.constant(1.0) | f.array(1.0, "float32")
f.convert_to_tensor(a) | f.as_tensor(a) | f.asarray(a) | f.convert_to_tensor(a) | f.asarray(a)
f.convert_to_tensor([1, 2, 3]) | f.tensor([1, 2, 3], dtype=f.int32) | f.asarray([1, 2, 3]) | f.convert_to_tensor([1, 2, 3]) | f.array([1, 2, 3], "int32")
f.convert_to_tensor([v, v]) | f.stack([v, v]) | f.stack([v, v]) | f.stack([v, v]) | f.stack([v, v])
f.convert_to_numpy(a) | np.array(a) | np.array(a) | np.array(a) | np.array(a)
f.sum(a) | | | f.reduce_sum(a) |
f.sum(a, axis=[0, 1]) | f.sum(a, (0, 1)) | f.sum(a, axis=(0, 1)) | f.reduce_sum(a, axis=[0, 1]) | f.sum(a, axis=(0, 1))
f.sum(a, axis=(0, 1), keepdims=True) | f.sum(a, (0, 1), True) | | f.reduce_sum(a, axis=(0, 1), keepdims=True) |
f.sum(n, axis=1) | f.sum(n.long(), 1).int() | | f.reduce_sum(n, axis=1) | f.sum(n, axis=1, dtype="int32")
f.prod(a, axis=1) | f.prod(a, 1) | | f.reduce_prod(a, axis=1) |
f.mean(a) | | | f.reduce_mean(a) |
f.mean(a, axis=(0, 1), keepdims=True) | f.mean(a, (0, 1), True) | | f.reduce_mean(a, axis=(0, 1), keepdims=True) |
f.var(a, axis=1) | f.var(a, 1, correction=0) | | f.math.reduce_variance(a, axis=1) |
f.std(a, axis=1) | f.sqrt(f.var(a, 1, correction=0)) | | f.math.reduce_std(a, axis=1) |
f.max(a) | f.amax(a) | | f.reduce_max(a) |
f.min(a, axis=(0, 1)) | f.amin(a, (0, 1)) | | f.reduce_min(a, axis=(0, 1)) |
f.amax(a, axis=0) | f.amax(a, 0) | | f.reduce_max(a, axis=0) |
f.ptp(a, axis=1) | f.amax(a, 1) - f.amin(a, 1) | | f.reduce_max(a, 1) - f.reduce_min(a, 1) |
f.all(m, axis=1) | f.all(m, 1) | | f.reduce_all(m, axis=1) |
f.any(m) | | | f.reduce_any(m) |
f.argmax(a) | f.argmax(a).int() | | - | f.argmax(a).astype("int32")
f.argmin(a, axis=0) | f.argmin(a, 0).int() | | f.argmin(a, 0, output_type="int32") | f.argmin(a, 0).astype("int32")
f.cumsum(a) | f.cumsum(a.reshape(-1), 0) | | f.cumsum(f.reshape(a, [-1])) |
f.cumprod(a, axis=1) | f.cumprod(a, 1) | | f.math.cumprod(a, 1) |
f.count_nonzero(a, axis=1) | f.count_nonzero(a, 1).int() | | f.math.count_nonzero(a, axis=1, dtype="int32") | f.count_nonzero(a, axis=1).astype("int32")
f.average(a, axis=0) | f.mean(a, 0) | | f.reduce_mean(a, axis=0) | f.mean(a, axis=0)
f.nansum(a, axis=0) | f.nansum(a, 0) | | - |
f.nanmean(a, axis=0) | f.nanmean(a, 0) | | - |
f.nanmax(a, axis=0) | f.where(f.all(f.isnan(a), 0), float("nan"), f.amax(f.where(f.isnan(a), float("-inf"), a), 0)) | | - | f.where(f.all(f.isnan(a), 0), float("nan"), f.max(f.where(f.isnan(a), float("-inf"), a), 0))
f.median(a, axis=0) | - | | - |
f.quantile(a, 0.5, axis=0) | f.quantile(a, 0.5, 0) | | - |
f.matmul(n, k) | | | | f.matmul(n, k)
f.matmul(c, a) | | | |
f.matmul(a, v) | | | f.linalg.matvec(a, v) |
f.einsum("bij,jk->bik", c, a) | | | |
f.tensordot(a, b, 1) | | | |
f.tensordot(a, b, axes=[[1], [0]]) | f.tensordot(a, b, [[1], [0]]) | | f.tensordot(a, b, [[1], [0]]) |
f.dot(v, v) | f.matmul(v, v) | | f.tensordot(v, v, 1) |
f.dot(a, v) | f.matmul(a, v) | | f.linalg.matvec(a, v) |
f.dot(a, 2.0) | f.multiply(a, 2.0) | f.multiply(a, 2.0) | f.multiply(a, 2.0) | f.multiply(a, 2.0)
f.inner(v, v) | f.inner(v, v) | | f.tensordot(v, v, 1) |
f.outer(v, v) | | | f.tensordot(v, v, 0) |
f.vdot(v, v) | | | f.tensordot(v, v, 1) |
f.kron(a, b) | | | - |
f.cross(a[:, :3], b[:, :3]) | f.linalg.cross(a[:, :3], b[:, :3]) | | f.linalg.cross(a[:, :3], b[:, :3]) |
f.diagonal(a) | | | f.linalg.diag_part(a) |
f.trace(a) | | | f.linalg.trace(a) |
f.diag(v) | | | f.linalg.diag(v) |
f.tril(a) | | | f.linalg.band_part(a, -1, 0) |
f.triu(a, 1) | f.triu(a, 1) | | - | f.triu(a, 1)
f.slogdet(a) | f.linalg.slogdet(a) | f.linalg.slogdet(a) | f.linalg.slogdet(a) | f.linalg.slogdet(a)
f.get_item(a, 0) | a[0] | a[0] | a[0] | a[0]
f.get_item(a, (slice(1, 3), slice(None))) | a[1:3, :] | a[1:3, :] | a[1:3, :] | a[1:3, :]
f.get_item(a, (Ellipsis, None)) | a[..., None] | a[..., None] | a[..., None] | a[..., None]
f.slice(a, (1, 2), (3, 4)) | a[1:4, 2:6] | a[1:4, 2:6] | f.slice(a, (1, 2), (3, 4)) | a[1:4, 2:6]
f.searchsorted(v, d[0]) | f.searchsorted(v, d[0], out_int32=True) | | f.searchsorted(v, d[0]) | f.searchsorted(v, d[0]).astype("int32")
f.isclose(a, b) | | | - |
f.diff(a) | | | a[:, 1:] - a[:, :-1] |
f.rsqrt(a) | f.rsqrt(a) | lax.rsqrt(a) | f.math.rsqrt(a) | 1 / f.sqrt(a)
f.erf(a) | | nn.gelu(a) | f.math.erf(a) | -
f.logsumexp(a, axis=-1) | f.logsumexp(a, -1) | nn.logsumexp(a, axis=-1) | f.reduce_logsumexp(a, axis=-1) | f.log(f.exp(a - f.max(a, -1, keepdims=True)).sum(-1)) + f.max(a, -1)
f.top_k(a, 3) | f.topk(a, 3) | lax.top_k(a, 3) | f.math.top_k(a, 3) | -
f.gelu(a) | F.gelu(a, approximate="tanh") | nn.gelu(a) | f.nn.gelu(a, approximate=True) | -
f.leaky_relu(a) | F.leaky_relu(a, 0.2) | nn.leaky_relu(a, 0.2) | f.nn.leaky_relu(a) | f.where(a > 0, a, 0.2 * a)
f.softplus(a) | F.softplus(a) | nn.softplus(a) | f.nn.softplus(a) | f.where(a > 0, a, 0.0) + f.log1p(f.exp(-f.abs(a)))
f.elu(a) | F.elu(a) | nn.elu(a) | f.nn.elu(a) | -
f.log_softmax(a) | f.log_softmax(a, -1) | nn.log_softmax(a) | f.nn.log_softmax(a) | -
f.softmax(a, axis=0) | f.softmax(a, 0) | nn.softmax(a, 0) | f.nn.softmax(a, 0) | -
f.relu6(a) | F.relu6(a) | nn.relu6(a) | f.nn.relu6(a) | f.where(a <= 0, 0, f.where(a >= 6, 6, a))
f.one_hot(i, 8) | F.one_hot(i.long(), 8).float() | nn.one_hot(i, 8) | f.one_hot(i, 8) | f.eye(8, dtype="float32")[i]
f.stop_gradient(a) | a.detach() | lax.stop_gradient(a) | f.stop_gradient(a) | a
f.shape(a) | tuple(a.shape) | a.shape | tuple(a.shape) | a.shape
f.dtype(a) | str(a.dtype) | a.dtype.name | a.dtype.name | a.dtype.name
f.cast(a, "float32") | a.to(f.float32) | a.astype("float32") | f.cast(a, "float32") | a.astype("float32", copy=False)
"""
