//! The hit path: a type of raw slots between `CacheBase` and `unstale.Cache`.
//!
//! A method made by the binding generator costs some 20 ns more than a slot of our own, which is half a hit. So reading is
//! written against the C API: `cache[key]`, `key in cache`, `len(cache)`, `get`, `get_or_load`, and the look-up of a function
//! decorated by `@cache.cached`. All else is inherited from [`CacheBase`] and from Python.

use std::ffi::{c_int, c_void, CStr};
use std::mem::MaybeUninit;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::ptr::{null, null_mut};

use pyo3::exceptions::{PyKeyError, PyTypeError};
use pyo3::ffi::{self, PyObject, Py_ssize_t};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};
use unstale::ErrorKind;

use crate::cache::CacheBase;
use crate::convert::{not_text, utf8_or_error};
use crate::error::{kind, Raise};
use crate::held::{with_direct_copies, Held};

/// In CPython since 3.7 with the meaning that it has had in the limited API's headers since 3.10, while we support 3.9.
const METH_FASTCALL: c_int = 0x80;

/// What stands for "no value" where `None` could be one.
static MISSING: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// The object that stands for "no value".
pub fn missing(py: Python<'_>) -> &Py<PyAny> {
    MISSING.get_or_init(py, || match py.import("builtins").and_then(|b| b.getattr("object")?.call0()) {
        Ok(object) => object.unbind(),
        Err(_) => py.Ellipsis(),
    })
}

/// Runs the body of a raw function: its error is raised, its panic stays inside.
#[inline]
fn raw<T>(failed: T, body: impl FnOnce(Python<'_>) -> PyResult<T>) -> T {
    // SAFETY: Python calls raw functions with the GIL held.
    let py = unsafe { Python::assume_attached() };
    match catch_unwind(AssertUnwindSafe(|| body(py))) {
        Ok(Ok(value)) => value,
        Ok(Err(e)) => {
            e.restore(py);
            failed
        }
        Err(_) => {
            kind(py, ErrorKind::Internal, "a fault in unstale's hit path; please report it").restore(py);
            failed
        }
    }
}

/// The Rust half of a cache object.
///
/// # Safety
/// `object` is a live instance of the type that [`make_type`] made; Python checks that of `self`. It lives for `'a`.
#[inline]
unsafe fn base<'a>(py: Python<'_>, object: *mut PyObject) -> &'a CacheBase {
    // SAFETY: the caller's word. `CacheBase` is frozen, so a shared reference is all there ever is.
    unsafe { Borrowed::from_ptr(py, object).cast_unchecked::<CacheBase>().get() }
}

#[inline]
fn look_up(py: Python<'_>, base: &CacheBase, key: &str) -> Option<Held> {
    with_direct_copies(py, || base.core().get(key))
}

/// The first half of a read-through, whose second half counts the miss.
#[inline]
fn look_up_first(py: Python<'_>, base: &CacheBase, key: &str) -> Option<Held> {
    with_direct_copies(py, || base.core().hit(key))
}

/// The UTF-8 of a key argument.
///
/// # Safety
/// `key` is a live object and lives for `'a`.
#[inline]
unsafe fn key_text<'a>(py: Python<'_>, key: *mut PyObject) -> PyResult<&'a str> {
    // SAFETY: the caller's word.
    unsafe { utf8_or_error(key).ok_or_else(|| not_text(&Borrowed::from_ptr(py, key), "key")) }
}

unsafe extern "C" fn subscript(slf: *mut PyObject, key: *mut PyObject) -> *mut PyObject {
    raw(null_mut(), |py| {
        // SAFETY: Python passes live objects, `slf` of our type.
        let (base, text) = unsafe { (base(py, slf), key_text(py, key)?) };
        match look_up(py, base, text) {
            Some(value) => Ok(value.into_ptr(py)),
            None => {
                base.core().check(text).raise(py)?;
                // SAFETY: as above.
                Err(PyKeyError::new_err(unsafe { Bound::from_borrowed_ptr(py, key) }.unbind()))
            }
        }
    })
}

unsafe extern "C" fn assign_subscript(slf: *mut PyObject, key: *mut PyObject, value: *mut PyObject) -> c_int {
    raw(-1, |py| {
        // SAFETY: Python passes live objects; no value means `del`.
        let (cache, key) = unsafe { (Borrowed::from_ptr(py, slf), Borrowed::from_ptr(py, key)) };
        // SAFETY: as above.
        match unsafe { Borrowed::from_ptr_or_opt(py, value) } {
            Some(value) => cache.call_method1("set", (key, value)).map(|_| 0),
            None if cache.call_method1("evict", (key,))?.is_truthy()? => Ok(0),
            None => Err(PyKeyError::new_err(key.to_owned().unbind())),
        }
    })
}

unsafe extern "C" fn length(slf: *mut PyObject) -> Py_ssize_t {
    // SAFETY: Python passes an object of our type.
    raw(-1, |py| Ok(unsafe { base(py, slf) }.core().len() as Py_ssize_t))
}

unsafe extern "C" fn contains(slf: *mut PyObject, key: *mut PyObject) -> c_int {
    raw(-1, |py| {
        // SAFETY: Python passes live objects, `slf` of our type.
        let (base, text) = unsafe { (base(py, slf), key_text(py, key)?) };
        if base.core().contains(text) {
            return Ok(1);
        }
        base.core().check(text).raise(py)?;
        Ok(0)
    })
}

/// `get(key, default=None)`
unsafe extern "C-unwind" fn get(
    slf: *mut PyObject,
    args: *const *mut PyObject,
    count: Py_ssize_t,
    names: *mut PyObject,
) -> *mut PyObject {
    raw(null_mut(), |py| {
        // SAFETY: of the fast calling convention: `count` arguments, then one per name in `names`.
        let (key, default) = unsafe {
            match (count, names.is_null()) {
                (1, true) => (*args, null_mut()),
                (2, true) => (*args, *args.add(1)),
                _ => get_arguments(py, args, count, names)?,
            }
        };
        // SAFETY: arguments live during the call; `slf` is of our type.
        let (base, text) = unsafe { (base(py, slf), key_text(py, key)?) };
        match look_up(py, base, text) {
            Some(value) => Ok(value.into_ptr(py)),
            None => {
                base.core().check(text).raise(py)?;
                // SAFETY: a live argument, or `None`.
                unsafe {
                    let answer = if default.is_null() { ffi::Py_None() } else { default };
                    ffi::Py_INCREF(answer);
                    Ok(answer)
                }
            }
        }
    })
}

/// `get`'s arguments when some are given by name, or wrongly.
///
/// # Safety
/// Of the fast calling convention.
#[cold]
unsafe fn get_arguments(
    py: Python<'_>,
    args: *const *mut PyObject,
    count: Py_ssize_t,
    names: *mut PyObject,
) -> PyResult<(*mut PyObject, *mut PyObject)> {
    let mut given = [null_mut(); 2];
    // SAFETY: the caller's word.
    let (positional, names) =
        unsafe { (std::slice::from_raw_parts(args, count as usize), Borrowed::from_ptr_or_opt(py, names)) };
    if positional.len() > 2 {
        return Err(PyTypeError::new_err(format!(
            "get() takes a key and a default, but {} arguments were given",
            positional.len()
        )));
    }
    given[..positional.len()].copy_from_slice(positional);
    for (i, name) in names.iter().flat_map(|names| names.cast::<PyTuple>()).flat_map(|names| names.iter().enumerate()) {
        let name = name.str()?.to_string();
        let Some(place) = ["key", "default"].iter().position(|n| **n == name) else {
            return Err(PyTypeError::new_err(format!("get() got an unexpected keyword argument '{name}'")));
        };
        if !given[place].is_null() {
            return Err(PyTypeError::new_err(format!("get() got multiple values for argument '{name}'")));
        }
        // SAFETY: one argument per name follows the positional ones.
        given[place] = unsafe { *args.add(positional.len() + i) };
    }
    if given[0].is_null() {
        return Err(PyTypeError::new_err("get() missing 1 required positional argument: 'key'"));
    }
    Ok((given[0], given[1]))
}

/// `_hit(key)`: the first half of a read-through; `MISSING` on a miss.
unsafe extern "C" fn hit(slf: *mut PyObject, key: *mut PyObject) -> *mut PyObject {
    raw(null_mut(), |py| {
        // SAFETY: Python passes live objects, `slf` of our type.
        let (base, text) = unsafe { (base(py, slf), key_text(py, key)?) };
        Ok(match look_up_first(py, base, text) {
            Some(value) => value.into_ptr(py),
            None => missing(py).clone_ref(py).into_ptr(),
        })
    })
}

extern "C-unwind" {
    // As `pyo3::ffi` has it, but for the word on unwinding.
    fn PyObject_Call(callable: *mut PyObject, args: *mut PyObject, kwargs: *mut PyObject) -> *mut PyObject;
}

/// `get_or_load(key, loader, **terms)`: a hit here; all else in Python's `Cache._load`.
///
/// The loader runs inside this function for as long as it likes. When the interpreter ends meanwhile, the thread, if it is
/// a daemon, is ended by unwinding (see `exit.rs`): so while Python code runs there is nothing here that would catch that
/// or be dropped by it.
unsafe extern "C-unwind" fn get_or_load(
    slf: *mut PyObject,
    args: *const *mut PyObject,
    count: Py_ssize_t,
    names: *mut PyObject,
) -> *mut PyObject {
    let mut call = [null_mut(); 3];
    let hit = raw(null_mut(), |py| {
        if count == 2 {
            // SAFETY: two arguments; they live during the call; `slf` is of our type.
            let (base, text) = unsafe { (base(py, slf), key_text(py, *args)?) };
            if let Some(value) = look_up_first(py, base, text) {
                return Ok(value.into_ptr(py));
            }
        }
        // SAFETY: of the fast calling convention, as in `get`.
        call = unsafe { load_call(py, slf, args, count, names)? };
        Ok(null_mut())
    });
    let [load, args, named] = call;
    if load.is_null() {
        return hit;
    }
    // SAFETY: `load_call` gave three references, which are ours; the GIL is held throughout.
    unsafe {
        let result = PyObject_Call(load, args, named);
        for reference in call {
            ffi::Py_DECREF(reference);
        }
        result
    }
}

/// `_load`, and the arguments as they are: a tuple and a dict. Three new references.
///
/// # Safety
/// Of the fast calling convention.
#[cold]
unsafe fn load_call(
    py: Python<'_>,
    slf: *mut PyObject,
    args: *const *mut PyObject,
    count: Py_ssize_t,
    names: *mut PyObject,
) -> PyResult<[*mut PyObject; 3]> {
    // SAFETY: the caller's word: `count` live arguments, then one per name.
    let (positional, names) =
        unsafe { (std::slice::from_raw_parts(args, count as usize), Borrowed::from_ptr_or_opt(py, names)) };
    // SAFETY: as above.
    let positional = PyTuple::new(py, positional.iter().map(|a| unsafe { Borrowed::from_ptr(py, *a) }))?;
    let named = PyDict::new(py);
    for (i, name) in names.iter().flat_map(|names| names.cast::<PyTuple>()).flat_map(|names| names.iter().enumerate()) {
        // SAFETY: as above.
        named.set_item(name, unsafe { Borrowed::from_ptr(py, *args.add(count as usize + i)) })?;
    }
    // SAFETY: a live object.
    let load = unsafe { Borrowed::from_ptr(py, slf) }.getattr("_load")?;
    Ok([load.into_ptr(), positional.into_ptr(), named.into_ptr()])
}

/// `Cache[User]`, for annotations.
unsafe extern "C" fn class_getitem(class: *mut PyObject, of: *mut PyObject) -> *mut PyObject {
    // SAFETY: both are live objects; the result is a new reference, or null with an error set.
    unsafe { ffi::Py_GenericAlias(class, of) }
}

const GET: &CStr = c"get($self, key, default=None)\n--\n\nThe value held under key, or default.";
const GET_OR_LOAD: &CStr = c"get_or_load($self, key, loader, *, ttl=None, tags=None, depends_on=None, version=None)\n--\n\n\
    The value held under key, or what loader() returns.\n\n\
    Concurrent callers share one call of the loader. A value that was invalidated while it was loaded is returned but not\n\
    stored. None means not found: it is returned, and stored only with negative_ttl. An exception of the loader reaches\n\
    everyone who waited for it.";

type FastMethod =
    unsafe extern "C-unwind" fn(*mut PyObject, *const *mut PyObject, Py_ssize_t, *mut PyObject) -> *mut PyObject;
type FastFunction = unsafe extern "C" fn(*mut PyObject, *const *mut PyObject, Py_ssize_t) -> *mut PyObject;

fn method(name: &'static CStr, body: FastMethod, doc: &'static CStr) -> ffi::PyMethodDef {
    // SAFETY: a pointer to a function; Python calls it by the convention that the flags name. The limited API has no name
    // for its type.
    let body = unsafe { std::mem::transmute::<FastMethod, ffi::PyCFunction>(body) };
    let body = ffi::PyMethodDefPointer { PyCFunction: body };
    ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: body,
        ml_flags: METH_FASTCALL | ffi::METH_KEYWORDS,
        ml_doc: doc.as_ptr(),
    }
}

/// The methods' definitions. Python keeps pointers to them for as long as a type lives, which is for good.
fn methods(py: Python<'_>) -> *mut ffi::PyMethodDef {
    static METHODS: PyOnceLock<usize> = PyOnceLock::new();
    let made = METHODS.get_or_init(py, || {
        let class_getitem: ffi::PyCFunction = class_getitem;
        let methods = Box::new([
            method(c"get", get, GET),
            method(c"get_or_load", get_or_load, GET_OR_LOAD),
            ffi::PyMethodDef {
                ml_name: c"_hit".as_ptr(),
                ml_meth: ffi::PyMethodDefPointer { PyCFunction: hit },
                ml_flags: ffi::METH_O,
                ml_doc: null(),
            },
            ffi::PyMethodDef {
                ml_name: c"__class_getitem__".as_ptr(),
                ml_meth: ffi::PyMethodDefPointer { PyCFunction: class_getitem },
                ml_flags: ffi::METH_O | ffi::METH_CLASS,
                ml_doc: null(),
            },
            ffi::PyMethodDef::zeroed(),
        ]);
        Box::into_raw(methods).expose_provenance()
    });
    std::ptr::with_exposed_provenance_mut(*made)
}

/// Gives `class`, a subclass, methods of its own: the interpreter calls a method fastest on an object of the very class
/// that the method belongs to.
#[pyfunction]
#[pyo3(signature = (class, /))]
pub fn adopt(class: &Bound<'_, PyType>) -> PyResult<()> {
    let py = class.py();
    if !class.is_subclass_of::<CacheBase>()? {
        return Err(PyTypeError::new_err("a subclass of Cache is needed"));
    }
    for (i, name) in ["get", "get_or_load", "_hit"].into_iter().enumerate() {
        // SAFETY: the first definitions, which live for good; the result is a new reference or null.
        let method = unsafe {
            Bound::from_owned_ptr_or_err(py, ffi::PyDescr_NewMethod(class.as_type_ptr(), methods(py).add(i)))?
        };
        class.setattr(name, method)?;
    }
    Ok(())
}

/// Makes the type.
pub fn make_type<'py>(py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
    let slot = |slot: c_int, pfunc: *mut c_void| ffi::PyType_Slot { slot, pfunc };
    let mut slots = [
        slot(ffi::Py_mp_subscript, subscript as *mut c_void),
        slot(ffi::Py_mp_ass_subscript, assign_subscript as *mut c_void),
        slot(ffi::Py_mp_length, length as *mut c_void),
        slot(ffi::Py_sq_contains, contains as *mut c_void),
        slot(ffi::Py_tp_methods, methods(py).cast()),
        slot(0, null_mut()),
    ];
    let mut spec = ffi::PyType_Spec {
        name: c"unstale._native.Cache".as_ptr(),
        // Inherited: this type adds no data.
        basicsize: 0,
        itemsize: 0,
        flags: (ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_BASETYPE) as _,
        slots: slots.as_mut_ptr(),
    };
    let bases = PyTuple::new(py, [PyType::new::<CacheBase>(py)])?;
    // SAFETY: `spec` and what it points to are valid for the call, the methods for good. The result is a new reference or null.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyType_FromSpecWithBases(&mut spec, bases.as_ptr())) }
}

/// How a decorated function's arguments make a key.
enum Piece {
    Text(Box<str>),
    Field(usize),
}

/// The look-up of a function decorated by `@cache.cached`: makes the key from arguments without a Python string.
#[pyclass(frozen, module = "unstale._native")]
pub struct Plan {
    cache: Py<PyAny>,
    pieces: Vec<Piece>,
    fields: usize,
}

#[pymethods]
impl Plan {
    /// `pieces`: texts, and numbers of fields.
    #[new]
    fn new(cache: Bound<'_, PyAny>, pieces: Vec<Bound<'_, PyAny>>) -> PyResult<Plan> {
        if !cache.is_instance_of::<CacheBase>() {
            return Err(PyTypeError::new_err("a cache is needed"));
        }
        let mut fields = 0;
        let pieces = pieces
            .into_iter()
            .map(|piece| match piece.cast::<PyString>() {
                Ok(text) => Ok(Piece::Text(text.to_string().into())),
                Err(_) => {
                    let field = piece.extract::<usize>()?;
                    fields = fields.max(field + 1);
                    Ok(Piece::Field(field))
                }
            })
            .collect::<PyResult<_>>()?;
        Ok(Plan { cache: cache.unbind(), pieces, fields })
    }

    /// A function of the fields: the value held under their key, or `MISSING`.
    #[getter]
    fn hit(slf: Bound<'_, Self>) -> PyResult<Bound<'_, PyAny>> {
        static DEFINITION: PyOnceLock<usize> = PyOnceLock::new();
        let py = slf.py();
        let definition = *DEFINITION.get_or_init(py, || {
            // SAFETY: as in `method`.
            let body = unsafe { std::mem::transmute::<FastFunction, ffi::PyCFunction>(plan_hit) };
            let ml_meth = ffi::PyMethodDefPointer { PyCFunction: body };
            let definition =
                ffi::PyMethodDef { ml_name: c"hit".as_ptr(), ml_meth, ml_flags: METH_FASTCALL, ml_doc: null() };
            Box::into_raw(Box::new(definition)).expose_provenance()
        });
        missing(py);
        let definition = std::ptr::with_exposed_provenance_mut(definition);
        // SAFETY: the definition lives for good; the function keeps `slf` alive. The result is a new reference or null.
        unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyCFunction_NewEx(definition, slf.as_ptr(), null_mut())) }
    }

    /// The key that these fields make.
    #[pyo3(signature = (*fields))]
    fn key(&self, py: Python<'_>, fields: &Bound<'_, PyTuple>) -> PyResult<String> {
        let fields: Vec<*mut PyObject> = fields.iter_borrowed().map(|f| f.as_ptr()).collect();
        let mut key = Buffer::new();
        // SAFETY: the tuple keeps them alive.
        unsafe { self.render(py, &fields, &mut key)? };
        Ok(key.as_str().to_owned())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.cache)
    }
}

impl Plan {
    /// # Safety
    /// `fields` are live objects.
    #[inline]
    unsafe fn render(&self, py: Python<'_>, fields: &[*mut PyObject], key: &mut Buffer) -> PyResult<()> {
        if fields.len() < self.fields {
            return Err(PyTypeError::new_err(format!("{} fields are needed, {} given", self.fields, fields.len())));
        }
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => key.push(text),
                // SAFETY: the caller's word.
                Piece::Field(i) => unsafe { render_field(py, fields[*i], key)? },
            }
        }
        Ok(())
    }
}

unsafe extern "C" fn plan_hit(slf: *mut PyObject, args: *const *mut PyObject, count: Py_ssize_t) -> *mut PyObject {
    raw(null_mut(), |py| {
        // SAFETY: `slf` is the plan that the function was made with; the arguments live during the call.
        let (plan, fields) = unsafe {
            (
                Borrowed::from_ptr(py, slf).cast_unchecked::<Plan>().get(),
                std::slice::from_raw_parts(args, count as usize),
            )
        };
        let mut key = Buffer::new();
        // SAFETY: arguments live during the call; `new` made sure that it is a cache.
        let base = unsafe {
            plan.render(py, fields, &mut key)?;
            base(py, plan.cache.as_ptr())
        };
        match look_up_first(py, base, key.as_str()) {
            Some(value) => Ok(value.into_ptr(py)),
            None => Ok(missing(py).clone_ref(py).into_ptr()),
        }
    })
}

/// As `format(field)` writes it.
///
/// # Safety
/// `field` is a live object.
#[inline]
unsafe fn render_field(py: Python<'_>, field: *mut PyObject, key: &mut Buffer) -> PyResult<()> {
    // SAFETY: the caller's word, here and below.
    let class = unsafe { ffi::Py_TYPE(field) };
    if class == &raw mut ffi::PyUnicode_Type {
        // SAFETY: as above; the text is copied at once.
        key.push(unsafe { utf8_or_error(field).ok_or_else(|| not_text(&Borrowed::from_ptr(py, field), "key"))? });
        return Ok(());
    }
    if class == &raw mut ffi::PyLong_Type {
        let mut overflow = 0;
        // SAFETY: as above.
        let number = unsafe { ffi::PyLong_AsLongLongAndOverflow(field, &mut overflow) };
        if overflow == 0 {
            key.push_int(number);
            return Ok(());
        }
    }
    // SAFETY: as above; the result is a new reference or null.
    let text = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyObject_Format(field, null_mut()))? };
    key.push(crate::convert::text(&text, "key")?);
    Ok(())
}

/// A key in the making: on the stack unless it is long.
struct Buffer {
    stack: [MaybeUninit<u8>; Buffer::STACK],
    len: usize,
    heap: String,
}

impl Buffer {
    const STACK: usize = 256;

    #[inline]
    fn new() -> Buffer {
        Buffer { stack: [MaybeUninit::uninit(); Buffer::STACK], len: 0, heap: String::new() }
    }

    #[inline]
    fn push(&mut self, text: &str) {
        if self.heap.is_empty() {
            if let Some(room) = self.stack.get_mut(self.len..self.len + text.len()) {
                // SAFETY: `room` is as long as the text.
                unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), room.as_mut_ptr().cast(), text.len()) };
                self.len += text.len();
                return;
            }
            let begun = self.as_str().to_owned();
            self.heap = begun;
        }
        self.heap.push_str(text);
    }

    #[inline]
    fn push_int(&mut self, number: i64) {
        let mut digits = [0u8; 20];
        let mut at = digits.len();
        let mut rest = number.unsigned_abs();
        loop {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if number < 0 {
            at -= 1;
            digits[at] = b'-';
        }
        // SAFETY: ASCII digits and a sign.
        self.push(unsafe { std::str::from_utf8_unchecked(&digits[at..]) });
    }

    #[inline]
    fn as_str(&self) -> &str {
        if !self.heap.is_empty() {
            return &self.heap;
        }
        // SAFETY: the first `len` bytes were written, by whole strings.
        unsafe { std::str::from_utf8_unchecked(std::slice::from_raw_parts(self.stack.as_ptr().cast(), self.len)) }
    }
}
